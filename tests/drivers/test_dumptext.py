"""A golden dump as text: what was written is what is read, whatever the words are."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from drivers import dump
from drivers.decode import decode
from drivers.dumptext import headers, stretches, text, words_of
from drivers.golden import compare
from drivers.map import load
from drivers.reading import Block
from drivers.sunspec import END

HEAD = {"device": "a meter: \"mine\", 'yours'", "source": "a test", "kind": "simulated"}
WORDS = st.integers(1, 60).flatmap(lambda count: st.binary(min_size=2 * count, max_size=2 * count))
BLOCKS = st.lists(st.builds(Block, st.sampled_from((3, 4)), st.integers(0, 65400), WORDS), min_size=1, max_size=4)


@given(blocks=BLOCKS)
def test_words_that_were_written_are_read(tmp_path_factory: object, blocks: list[Block]) -> None:
    path = Path(str(tmp_path_factory.getbasetemp())) / "words.yaml"  # type: ignore[attr-defined]
    path.write_text(text(load("eastron_sdm630"), HEAD, blocks, ()))
    found = dump.load(path)
    assert words_of(found.blocks) == words_of(blocks)
    assert (found.device, found.catalogue) == (HEAD["device"], "eastron_sdm630")
    assert set(stretches(blocks)) == set(found.blocks)


@given(words=st.binary(min_size=160, max_size=160))
def test_readings_that_were_written_are_those_that_are_made(tmp_path_factory: object, words: bytes) -> None:
    """NaN, infinities and overflow among them."""
    meter_map, block = load("eastron_sdm630"), Block(4, 0, words)
    path = Path(str(tmp_path_factory.getbasetemp())) / "readings.yaml"  # type: ignore[attr-defined]
    path.write_text(text(meter_map, HEAD, (block,), decode(meter_map, (block,))))
    found = dump.load(path)
    assert len(found.readings) == len(decode(meter_map, (block,)))
    assert compare(meter_map, found, "x") == []


def test_headers_are_what_discovery_reads() -> None:
    models = ((1, 40002), (103, 40070), (END, 40122))
    assert list(headers(models)) == [
        Block(3, 40000, b"SunS"),
        Block(3, 40002, bytes.fromhex("00010042")),
        Block(3, 40070, bytes.fromhex("00670032")),
    ]
    assert list(headers(())) == []

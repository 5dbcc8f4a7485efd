"""Encode and sign one statement of twelve quantities, against the bare P-256 signature in it; and how long it is.

Goals: at most 1.7 times the bare signature; at most 450 bytes with the register words as evidence.
"""

from __future__ import annotations

import os
from dataclasses import replace

import click
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from bench import clock, sample
from bench.options import show, small
from bench.report import Table, verdict
from drivers.map import MeterMap
from drivers.plan import RTU_OVERHEAD_BYTES, TCP_OVERHEAD_BYTES
from drivers.reading import Reading
from signer.chain import Chain
from signer.keys.file import FileKey
from signer.statement import Instant, parse

TIMES_BARE = 1.7
MOST_BYTES = 450
_GATEWAY = "home-0001"
_INSTANT = Instant(sample.SLOT_MS + 1_038, 86_400_123, 2, 12)


def chain(key: ec.EllipticCurvePrivateKey) -> Chain:
    """A chain past its genesis, in the middle of its second million statements."""
    made = Chain(_GATEWAY, FileKey(key), None, 7)
    made.genesis(_INSTANT, (b"certificate",))
    assert made.head
    made.head = replace(made.head, seq=1_234_567)
    return made


def cost(rounds: int, calls: int) -> Table:
    """Statement against bare signature, with the steps between."""
    key = ec.generate_private_key(ec.SECP256R1())
    gateway, store = chain(key), FileKey(key)
    with_words = sample.reading(sample.sdm630_main())
    without = replace(with_words, blocks=())
    algorithm, digest = ec.ECDSA(Prehashed(hashes.SHA256())), os.urandom(32)
    found = clock.compare(
        {
            "bare signature": lambda: key.sign(digest, algorithm),
            "key store: signature as r || s, low s": lambda: store.sign_digest(digest),
            "statement without words": lambda: gateway.reading(without, _INSTANT),
            "statement with words": lambda: gateway.reading(with_words, _INSTANT),
        },
        rounds,
        calls,
    )
    bare = found["bare signature"]
    rows = []
    for name, one in found.items():
        goal = verdict(one.ratio(bare), TIMES_BARE) if name == "statement with words" else ""
        rows.append((name, f"{one.median_us:.1f}", f"{one.best_us:.1f}", f"{one.ratio(bare):.2f}", goal))
    return Table(
        "Encode and sign one statement of 12 quantities",
        ("what", "median us", "best us", "times bare", "goal"),
        tuple(rows),
        (f"{rounds} rounds of {calls} calls in turns, processor time of the thread.",),
    )


def sizes(everything: bool) -> Table:
    """Bytes of one statement: the twelve main quantities of an SDM630, then whole models of about twelve, or all."""
    made = chain(ec.generate_private_key(ec.SECP256R1()))
    main = sample.sdm630_main()
    rows = [_size_row(made, "SDM630, its 12 main quantities", main, True)]
    rows += [_size_row(made, name, meter_map, False) for name, meter_map in sample.catalogue(everything)]
    return Table(
        "Bytes of one statement",
        ("meter", "quantities", "words, TCP", "bytes, TCP", "words, RTU", "bytes, RTU", "without words", "goal"),
        tuple(rows),
        (
            "12 main quantities: voltage, current and active power of each phase, total active power, energy import and"
            " export.",
            "Words: registers kept as evidence. Gateway id of 9, meter id of 8 characters.",
            "A device with several measuring points is counted with its first.",
        ),
    )


def _size_row(made: Chain, title: str, meter_map: MeterMap, judged: bool) -> tuple[str, ...]:
    cells = [title]
    longest = 0
    for overhead_bytes in (TCP_OVERHEAD_BYTES, RTU_OVERHEAD_BYTES):
        reading = sample.reading(meter_map, overhead_bytes=overhead_bytes)
        size = _size(made, reading)
        longest = max(longest, size)
        if len(cells) == 1:
            cells.append(str(len(reading.values)))
        cells += [str(sum(len(block.words) // 2 for block in reading.blocks)), str(size)]
    cells.append(str(_size(made, replace(reading, blocks=()))))
    return (*cells, verdict(longest, MOST_BYTES, unit=" B") if judged else "")


def _size(made: Chain, reading: Reading) -> int:
    statement = made.reading(reading, _INSTANT)
    parse(statement.data)
    return len(statement.data)


@click.command("sign", help=__doc__)
@click.option("--rounds", default=200, show_default=True, help="Rounds in which the candidates take turns.")
@click.option("--calls", default=50, show_default=True, help="Calls of each in a round.")
@click.option("--all", "everything", is_flag=True, help="Sizes of the whole catalogue.")
@small
def command(rounds: int, calls: int, everything: bool, tiny: bool) -> None:
    if tiny:
        rounds, calls = 3, 2
    show([cost(rounds, calls), sizes(everything)])


if __name__ == "__main__":
    command()

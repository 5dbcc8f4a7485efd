"""Encode and sign one statement of twelve quantities, against the bare P-256 signature in it; and how long it is.

Goals: at most 1.7 times the bare signature; at most 450 bytes with the register words as evidence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
_GROUP = 32
_BARE = "bare signature"
_GROUPED = f"statements of {_GROUP} meters"
_INSTANT = Instant(sample.SLOT_MS + 1_038, 86_400_123, 2, 12)


def chain(key: ec.EllipticCurvePrivateKey) -> Chain:
    """A chain past its genesis, in the middle of its second million statements."""
    made = Chain(_GATEWAY, FileKey(key), None, 7)
    made.genesis(_INSTANT, (b"certificate",))
    assert made.head
    made.head = replace(made.head, seq=1_234_567)
    return made


def cost(rounds: int, calls: int) -> Table:
    """Statements, alone and in groups, against the bare signature."""
    key = ec.generate_private_key(ec.SECP256R1())
    gateway, store = chain(key), FileKey(key)
    with_words = sample.reading(sample.sdm630_main())
    points = [replace(with_words, sub=f"house-{number:02}") for number in range(_GROUP)]
    algorithm, digest = ec.ECDSA(Prehashed(hashes.SHA256())), os.urandom(32)

    def bare() -> None:
        for _ in points:
            key.sign(digest, algorithm)

    def as_in_cose() -> None:
        for _ in points:
            store.sign_digest(digest)

    def in_groups_of(size: int) -> Callable[[], None]:
        def make() -> None:
            for first in range(0, _GROUP, size):
                made = [gateway.reading(one, _INSTANT) for one in points[first : first + size]]
                for statement in made:
                    assert statement.data

        return make

    found = clock.compare(
        {
            _BARE: bare,
            "key store: signature as r || s, low s": as_in_cose,
            "statement, each alone": in_groups_of(1),
            "statements of 8 meters": in_groups_of(8),
            _GROUPED: in_groups_of(_GROUP),
        },
        rounds,
        calls,
    )
    rows = []
    for name, one in found.items():
        ratio = one.ratio(found[_BARE])
        goal = verdict(ratio, TIMES_BARE) if name == _GROUPED else ""
        rows.append((name, f"{one.median_us / _GROUP:.1f}", f"{one.best_us / _GROUP:.1f}", f"{ratio:.2f}", goal))
    return Table(
        "Encode and sign one statement of 12 quantities",
        ("what", "median us", "best us", "times bare", "goal"),
        tuple(rows),
        (
            f"{rounds} rounds of {calls} times {_GROUP} in turns, processor time of the thread.",
            "The writer signs what one slot brings as a group: it makes all statements, then signs them.",
        ),
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
@click.option("--rounds", default=100, show_default=True, help="Rounds in which the candidates take turns.")
@click.option("--calls", default=2, show_default=True, help="Groups of each in a round.")
@click.option("--all", "everything", is_flag=True, help="Sizes of the whole catalogue.")
@small
def command(rounds: int, calls: int, everything: bool, tiny: bool) -> None:
    if tiny:
        rounds, calls = 3, 1
    show([cost(rounds, calls), sizes(everything)])


if __name__ == "__main__":
    command()

"""``aigeco-peer trace``: a settled number back to signed statements, a statement forward to what used it.

Rules
- Every step is computed again; one that fails is named with its place, and the command ends with 1. Where nothing fails
  but evidence was erased, or is not the caller's to see, it ends with 5.
- Nothing is written, and a peer may go on working.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ledger.cli import calling, where
from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.trace import Trace
    from ledger.trace.tree import Step

_Function = TypeVar("_Function", bound=Callable[..., Any])
_WIDTH = 80
_SID_DIGITS = 64


@click.group("trace", short_help="Trace a settled number to its statements, and back.")
def command() -> None:
    """Trace a settled number back to statements, signatures, receipts and blocks, or a statement forward.

    Each step is computed again. PERIOD is the begin of a period: 2026-10-01T13:15, legal time of the group, or with Z
    or an offset behind it.
    """


def _options(function: _Function) -> Any:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, the whole tree."),
        click.option("--all", "every", is_flag=True, help="Show every step, of a month too."),
        click.option(
            "--trust",
            type=click.Path(path_type=Path),
            help="PEM file of the organisations' roots that receipts are judged by; else what the ledger's side has.",
        ),
        click.option(
            "--receipts",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="receipts.cborseq of exported evidence: the receipts that a gateway has got.",
        ),
        calling.options,
    ):
        function = option(function)
    return function


_version = click.option("--version", type=click.IntRange(1), help="This version, not the last one.")


@command.command("settlement", short_help="A member's energy of a period or month.")
@click.argument("group")
@click.argument("member")
@click.argument("period", metavar="PERIOD|YYYY-MM")
@_version
@_options
def settlement(group: str, member: str, period: str, version: int | None, **how: Any) -> int:
    """What MEMBER of GROUP was allotted, consumed, had over and took from the grid in a period, or sums of a month."""
    from ledger import moments

    def find(trace: Trace) -> Step:
        try:
            year, month = moments.month(period)
        except moments.BadTime:
            return trace.numbers.period(group, member, _instant(trace, group, period), version)
        if version is not None:
            raise Refused("--version: a month is of the last versions", Exit.USAGE, "a period of that version")
        return trace.numbers.month(group, member, year, month)

    return _show(find, **how)


@command.command("transfer", short_help="What one member's surplus gave to another.")
@click.argument("group")
@click.argument("seller")
@click.argument("buyer")
@click.argument("period")
@_version
@_options
def transfer(group: str, seller: str, buyer: str, period: str, version: int | None, **how: Any) -> int:
    """What the surplus of SELLER gave to BUYER in a period; --version is that of the recorded transfers."""
    return _show(
        lambda trace: trace.numbers.transfer(group, seller, buyer, _instant(trace, group, period), version), **how
    )


@command.command("guarantee", short_help="A guarantee of origin.")
@click.argument("device")
@click.argument("number", type=click.IntRange(1))
@_options
def guarantee(device: str, number: int, **how: Any) -> int:
    """The registers that guarantee NUMBER of DEVICE was issued for, and what became of it."""
    return _show(lambda trace: trace.numbers.guarantee(device, number), **how)


@command.command("statement", short_help="A statement, and all that used it.")
@click.argument("stream")
@click.argument("seq", metavar="SEQ|SID")
@_options
def statement(stream: str, seq: str, **how: Any) -> int:
    """The statement at SEQ of STREAM, or with this SID, verified; and forward to everything that used it."""
    if not seq.isdecimal() and len(seq) != _SID_DIGITS:
        raise Refused(f"{seq[:70]}: a number, or a sid of 64 digits, is needed", Exit.USAGE, "aigeco-peer show streams")
    return _show(lambda trace: trace.forward.trace(stream, _seq(trace, stream, seq)), **how)


def _instant(trace: Trace, group: str, period: str) -> int:
    from ledger import moments

    zone = trace.evidence.ask("sharing", "Group", group=group)["zone"]
    try:
        return moments.instant(period, zone)
    except moments.BadTime as error:
        raise Refused(str(error), Exit.USAGE) from None


def _seq(trace: Trace, stream: str, given: str) -> int:
    if len(given) != _SID_DIGITS:
        return int(given)
    due: int | None = 0
    while due is not None:
        found = trace.evidence.ask("measurements", "Find", stream=stream, sid=given, from_seq=due)
        if found["seq"] is not None:
            return int(found["seq"])
        due = found["next"]
    raise Refused(f"stream {stream} has no statement {given}", Exit.DECLINED)


def _receipts(path: Path | None) -> dict[tuple[bytes, int], list[bytes]]:
    """The receipts in a file, by batch."""
    from signer import receipt
    from signer.bundle import Sequence
    from signer.errors import Malformed

    found: dict[tuple[bytes, int], list[bytes]] = {}
    if path is None:
        return found
    sequence = Sequence.open(path, receipt.MAX_BYTES)
    try:
        while (data := sequence.next()) is not None:
            said = receipt.parse(data)
            found.setdefault((said.stream, said.first), []).append(data)
    except Malformed as error:
        words = f"{path}, byte {sequence.offset}: {error}"
        raise Refused(words, Exit.USAGE, "receipts.cborseq of aigeco export, or of aigeco-peer export") from None
    finally:
        sequence.close()
    return found


@contextmanager
def _opened(place: calling.Place, trust: Path | None, receipts: Path | None) -> Iterator[Trace]:
    from ledger import config as configuration
    from ledger.trace import Trace
    from ledger.trace.evidence import FileEvidence
    from signer.trust import Trust, Untrusted, load_organisations, load_pem

    try:
        pinned = None if trust is None else Trust(organisations=load_organisations(trust))
        if not calling.embedded(place):
            with calling.evidence(place) as (found, roots):
                yield Trace(found, pinned or roots, _receipts(receipts))
            return
        if "/" in place.who:
            words = f"--as {place.who}: the embedded ledger has one organisation, and --as names a member"
            raise Refused(words, Exit.USAGE, "--as MEMBER, or --network")
        config = configuration.load(where.find(place.config))
        if pinned is None:
            own = load_pem(config.receipt_certificate)[-1]
            pinned = Trust(organisations={config.organisation: (own,)})
    except Untrusted as error:
        raise Refused(str(error), Exit.CONFIG, "--trust FILE with the organisations' roots") from None
    evidence = FileEvidence(config.file, config.organisation, place.who)
    try:
        yield Trace(evidence, pinned, _receipts(receipts))
    finally:
        evidence.close()


def _show(
    find: Callable[[Trace], Step],
    as_json: bool,
    every: bool,
    trust: Path | None,
    receipts: Path | None,
    place: calling.Place,
) -> int:
    from ledger.trace.evidence import Fault
    from ledger.trace.numbers import NotSettled
    from ledger.trace.tree import Mark

    with _opened(place, trust, receipts) as trace:
        try:
            step = find(trace)
        except NotSettled as error:
            raise Refused(str(error), Exit.DECLINED) from None
        except Fault as fault:
            raise Refused(str(fault), Exit.DOES_NOT_HOLD) from None
        step.parts.append(trace.chain())
    if as_json:
        troubles = [{"place": way, "state": part.mark.word, "reason": part.reason} for way, part in step.troubles()]
        told = {"state": step.worst.word, "counts": _counts(step), "troubles": troubles, "trace": step.record()}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        from ledger.cli.tree import lines

        for line in lines(step, _WIDTH, every or step.what != "month"):
            print(line)
        _conclude(step)
    return {Mark.FAILED: Exit.DOES_NOT_HOLD, Mark.ERASED: Exit.INCOMPLETE, Mark.WITHHELD: Exit.INCOMPLETE}.get(
        step.worst, Exit.OK
    )


def _conclude(step: Step) -> None:
    """The last lines: how many steps, and where to look."""
    import textwrap

    counts = {word: number for word, number in _counts(step).items() if number and word != "noted"}
    print()
    print(", ".join(f"{number:,} {word}" for word, number in counts.items()))
    seen: set[int] = set()
    for way, part in sorted(step.troubles(), key=lambda found: -found[1].mark):
        if id(part) not in seen and len(seen) < _MOST_TROUBLES:
            print(*textwrap.wrap(f"{part.mark.word}: {way}: {part.reason}", _WIDTH, subsequent_indent="  "), sep="\n")
        seen.add(id(part))
    if len(seen) > _MOST_TROUBLES:
        print(f"and {len(seen) - _MOST_TROUBLES} more")


_MOST_TROUBLES = 5


def _counts(step: Step) -> dict[str, int]:
    """Steps by what became of them; what several stand on counts once."""
    from ledger.trace.tree import Mark

    counts, seen, open_ = {mark.word: 0 for mark in Mark}, set(), [step]
    while open_:
        part = open_.pop()
        if id(part) not in seen:
            seen.add(id(part))
            counts[part.mark.word] += 1
            open_ += part.parts
    return counts

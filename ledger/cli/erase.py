"""``aigeco-peer erase``: take away what is kept of a member, a meter or a gateway, on request."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ledger.cli import calling
from ledger.cli.exits import Exit, Refused
from ledger.cli.group import json_option

if TYPE_CHECKING:
    from ledger.calling import Contracts
    from ledger.cli.calling import Place
    from ledger.erasure import Point


@click.command("erase", short_help="Erase what is kept of a member.")
@click.option("--member", metavar="NAME", default="", help="All of a member: its meters, and what it has in --group.")
@click.option("--group", metavar="GROUP", help="Also results, transfers and measuring points there.")
@click.option("--meter", metavar="NAME", default="", help="What was read of a meter.")
@click.option("--gateway", metavar="ID", default="", help="Everything that a gateway said.")
@click.option("--sub", metavar="NAME", help="Of the gateway, one measuring point.")
@click.option("--from", "from_", metavar="TIME", required=True, help="From when, 2026-10-01.")
@click.option("--until", metavar="TIME", required=True, help="To before when.")
@click.option("--why", required=True, help="Kept for ever and public, such as: asked by the member, 24 Nov.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@calling.options
def command(
    member: str,
    group: str | None,
    meter: str,
    gateway: str,
    sub: str | None,
    from_: str,
    until: str,
    why: str,
    yes: bool,
    as_json: bool,
    place: Place,
) -> int:
    """Erase for ever the statements of a time, and a member's results and transfers made from them.

    Sids, roots, receipts, and who asked when and why stay, so that the rest verifies. On a network the caller needs the
    roles eraser and auditor or settler.
    """
    from ledger import erasure

    if len([name for name in (member, meter, gateway) if name]) != 1 or (group and not member) or (sub and not gateway):
        advice = "--member NAME [--group GROUP], --meter NAME, or --gateway ID [--sub NAME]"
        raise Refused("whose is not said, or said twice", Exit.USAGE, advice)
    with calling.contracts(place) as contracts:
        from_ms, until_ms = (moment_of(contracts, group, *said) for said in (("--from", from_), ("--until", until)))
        if from_ms >= until_ms:
            raise Refused(f"--until {until} is not after --from {from_}", Exit.USAGE)
        if gateway:
            points = [erasure.Point(gateway, sub, from_ms, until_ms)]
        elif meter:
            points = erasure.of_meter(contracts, meter, from_ms, until_ms)
        else:
            points = erasure.of_member(contracts, member, group, from_ms, until_ms)
        if not yes:
            _confirm(points, member, group, from_, until)
        done = erasure.erase(contracts, points, member, group, from_ms, until_ms, why)
        tidy = _tidy(contracts)
    if as_json:
        print(json.dumps({"points": [asdict(point) for point in points], **asdict(done), "tidy": tidy}))
        return Exit.OK
    print(f"erased: {done.runs} runs of statements, {done.stretches} settled stretches, {done.exchanged} of transfers")
    if not tidy:
        print("the running peer clears its file in a moment; backups made before today still hold it")
    return Exit.OK


def moment_of(contracts: Contracts, group: str | None, option: str, text: str) -> int:
    from ledger import moments
    from ledger.rules.record import unpack

    zone = unpack(contracts.ask("sharing", "Group", {"group": group}))["zone"] if group else "peninsula"
    try:
        return moments.instant(text, zone)
    except moments.BadTime as error:
        raise Refused(f"{option}: {error}", Exit.USAGE) from None


def _confirm(points: list[Point], member: str, group: str | None, from_: str, until: str) -> None:
    for point in points:
        print(f"statements of {point.gateway}{f'/{point.sub}' if point.sub else ''}")
    if group:
        print(f"results and transfers of {member} in {group}")
    click.confirm(f"erase them from {from_} to {until}, for ever", abort=True)


def _tidy(contracts: Contracts) -> bool:
    """Whether it is nowhere in the ledger's file any more; on a network the peers see to theirs."""
    from ledger.calling import EmbeddedContracts

    return contracts.tidy() if isinstance(contracts, EmbeddedContracts) else True

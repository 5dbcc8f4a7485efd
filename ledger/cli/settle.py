"""``aigeco-peer settle``: a community's energy, from its members and meters to the month's statement.

Each command is a thin skin over calls of the contracts ``sharing``, ``exchanges`` and ``origin``, on either ledger.
Reading is in :mod:`ledger.cli.settled`, exchanges in :mod:`ledger.cli.exchanges`, guarantees in
:mod:`ledger.cli.guarantees`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import calling
from ledger.cli.exchanges import dispute, order, transfers
from ledger.cli.exits import Exit, Refused
from ledger.cli.group import FILE, json_option, members_of, moment, month_ms, opened
from ledger.cli.guarantees import origin
from ledger.cli.settled import files, results, state, statement

if TYPE_CHECKING:
    from ledger.cli.calling import Place
    from ledger.community import Community, Settled

_MINUTES = {"15": 900_000, "60": 3_600_000}

# Coefficients of each hour that go into one call: a record has 4 MB.
_NUMBERS_A_CALL = 75_000


@click.group("settle", short_help="Share a community's energy: members, months, statements.")
def command() -> None:
    """Share a community's energy: who takes part, what each month gave whom, and what is still open.

    Times are legal time of the group: 2026-10-01, or 2026-10-01T13:15. docs/settlement.md has a whole month as an
    example.
    """


@command.command("create", short_help="Make a group.")
@click.argument("group")
@click.option("--zone", default="peninsula", show_default=True, type=click.Choice(["peninsula", "canarias"]))
@click.option("--minutes", default="60", show_default=True, type=click.Choice(list(_MINUTES)), help="Of a period.")
@calling.options
def create(group: str, zone: str, minutes: str, place: Place) -> int:
    """Make the group GROUP, which belongs to the organisation of whoever calls."""
    given = {"group": group, "zone": zone, "period_ms": _MINUTES[minutes]}
    with calling.contracts(place) as contracts:
        contracts.call("sharing", "CreateGroup", given)
    print(f"group {group}: periods of {minutes} minutes, {zone}")
    return Exit.OK


@command.command("member", short_help="Add members.")
@click.argument("group")
@click.argument("members", nargs=-1, required=True)
@click.option("--organisation", metavar="MSPID", help="Whose certificates name them; else of whoever calls.")
@calling.options
def member(group: str, members: tuple[str, ...], organisation: str | None, place: Place) -> int:
    """Add MEMBERS to GROUP: pseudonyms, they are public. Added again, another organisation takes the place."""
    with calling.contracts(place) as contracts:
        for name in members:
            given = {"group": group, "member": name, "organisation": organisation or contracts.organisation}
            contracts.call("sharing", "SetMember", given)
            print(f"{name} is a member of {group}, with certificates of {given['organisation']}")
    return Exit.OK


@command.command("point", short_help="Add a measuring point, or end one.")
@click.argument("group")
@click.argument("point")
@click.option("--at", metavar="GATEWAY/METER", help="Where it is measured.")
@click.option("--member", help="Whose consumption it is; without, it is the group's generation.")
@click.option("--from", "from_", metavar="TIME", help="From when on.")
@click.option("--until", metavar="TIME", help="Ends it then.")
@calling.options
def point(
    group: str, point: str, at: str | None, member: str | None, from_: str | None, until: str | None, place: Place
) -> int:
    """Add the measuring point POINT to GROUP from a time on, or end it at one."""
    if (until is None) == (from_ is None) or (from_ is not None and at is None):
        raise Refused(
            "--at with --from adds a point, --until ends one", Exit.USAGE, "--at GATEWAY/METER --from 2026-10-01"
        )
    with opened(place, group) as community:
        if until is not None:
            given: dict[str, Any] = {"group": group, "point": point, "until_ms": moment(community, "--until", until)}
            community.contracts.call("sharing", "EndPoint", given)
            print(f"point {point} ends {until}")
            return Exit.OK
        assert at is not None
        assert from_ is not None
        gateway, slash, sub = at.partition("/")
        if not slash:
            raise Refused(f"--at {at}: gateway and meter are needed", Exit.USAGE, "--at home-1/main")
        given = {"group": group, "point": point, "gateway": gateway, "sub": sub}
        given |= {"kind": "consumption", "member": member} if member else {"kind": "generation"}
        given["from_ms"] = moment(community, "--from", from_)
        community.contracts.call("sharing", "AddPoint", given)
    print(f"point {point} is {f'consumption of {member}' if member else 'generation'}, at {at}, from {from_}")
    return Exit.OK


@command.command("coefficients", short_help="Agree on coefficients.")
@click.argument("group")
@click.argument("file", type=FILE)
@click.option("--from", "from_", metavar="TIME", required=True, help="They hold from then on.")
@click.option("--cups", type=FILE, help="CSV member;CUPS, where FILE names supply points and not members.")
@click.option("--by-consumption", is_flag=True, help="Share by consumption; FILE is for periods without any.")
@click.option("--year", type=click.IntRange(2002, 9998), help="Of coefficients for each hour; else of --from.")
@calling.options
def coefficients(
    group: str,
    file: Path,
    from_: str,
    cups: Path | None,
    by_consumption: bool,
    year: int | None,
    place: Place,
) -> int:
    """Agree on the coefficients in FILE: CUPS;0,500000 a line, or CUPS;hour;0,500000 for each hour of a year."""
    from ledger.calling import salted
    from ledger.files import BadFile, read_coefficients

    try:
        table = read_coefficients(file.read_text())
    except (BadFile, UnicodeDecodeError) as error:
        raise Refused(f"{file}: {error}", Exit.USAGE, "CUPS;0,500000 in every line") from None
    names = members_of(table.supplies, cups)
    hourly = len(table.rows) > 1
    if hourly and by_consumption:
        raise Refused("--by-consumption needs one coefficient a member", Exit.USAGE, f"one line a member in {file}")
    with opened(place, group) as community:
        from_ms = moment(community, "--from", from_)
        order = sorted(range(len(names)), key=lambda at: names[at])
        kind = "hourly" if hourly else "by consumption" if by_consumption else "fixed"
        given: dict[str, Any] = {"group": group, "from_ms": from_ms, "kind": kind}
        secret = {}
        if hourly:
            given["members"] = [names[at] for at in order]
        else:
            secret["coefficients"] = salted({"members": {names[at]: table.rows[0][at] for at in order}})
        if not any(each["from_ms"] == from_ms and each["kind"] == kind == "hourly" for each in community.agreements()):
            community.contracts.call("sharing", "Agree", given, secret)
        if hourly:
            _put_hours(community, from_ms, year or int(from_[:4]), [[row[at] for at in order] for row in table.rows])
    print(f"{group} shares {kind} among {len(names)} members from {from_} on")
    return Exit.OK


@command.command("show", short_help="Show a group.")
@click.argument("group")
@json_option
@calling.options
def show(group: str, as_json: bool, place: Place) -> int:
    """Show GROUP: its members, measuring points and agreements."""
    with opened(place, group) as community:
        record, members = community.record, community.members()
        points, agreements = community.points(), community.agreements()
        parts = [community.coefficients(each) for each in agreements]
    if as_json:
        agreed = [{**each, "coefficients": part} for each, part in zip(agreements, parts, strict=True)]
        print(json.dumps({"group": record, "members": members, "points": points, "agreements": agreed}, indent=2))
        return Exit.OK
    from ledger import moments
    from ledger.cli.group import share
    from ledger.cli.table import table

    def at(at_ms: int | None) -> str | None:
        return None if at_ms is None else moments.shown(at_ms, community.zone)

    minutes = community.period_ms // 60_000
    print(f"Group {group} of {record['organisation']}: periods of {minutes} minutes, {community.zone}\n")
    table("Members", ("member", "organisation"), members)
    rows = [
        {
            "point": each["point"],
            "whose": each["member"] or "generation",
            "measured at": f"{each['gateway']}/{each['sub']}",
            "from": at(each["from_ms"]),
            "until": at(each["until_ms"]),
        }
        for each in points
    ]
    print()
    table("Measuring points", ("point", "whose", "measured at", "from", "until"), rows)
    for each, part in zip(agreements, parts, strict=True):
        print()
        title = f"Shared {each['kind']} from {at(each['from_ms'])} on"
        hidden = "of each hour" if each["kind"] == "hourly" else "not shown"
        rows = [{"member": name, "share": share(part[name]) if part else hidden} for name in each["members"]]
        table(title, ("member", "share"), rows)
    return Exit.OK


@command.command("run", short_help="Settle what is due.")
@click.argument("group")
@click.option("--month", metavar="YYYY-MM", help="This month only; else everything since the group began.")
@click.option("--until", metavar="TIME", help="Up to then; else to the end of yesterday.")
@click.option("--again", is_flag=True, help="Also ask about what is settled for good.")
@json_option
@calling.options
def run(group: str, month: str | None, until: str | None, again: bool, as_json: bool, place: Place) -> int:
    """Settle the periods of GROUP that are due, and again those that are provisional or open.

    What each gave whom is recorded with it. Run again with nothing new, nothing is written.
    """
    from ledger import moments
    from ledger.rules import hours

    with opened(place, group) as community:
        now_ms = int(time.time() * 1000)
        today = moments.midnight(hours.local(now_ms, community.zone).date(), community.zone)
        until_ms = min(moment(community, "--until", until), now_ms) if until else today
        from_ms = 0
        if month:
            from_ms, end_ms = month_ms(community, month)
            until_ms = min(until_ms, end_ms)
        begun = time.monotonic()
        done = []
        for each in community.settle(from_ms, until_ms, again):
            done.append(each)
            if not as_json:
                _say(community, each)
        took_s = time.monotonic() - begun
    if as_json:
        print(json.dumps({"group": group, "stretches": [_told(each) for each in done]}, indent=2))
    else:
        _summary(group, done, took_s)
    return Exit.DECLINED if any(each.declined for each in done) else Exit.OK


def _put_hours(community: Community, from_ms: int, year: int, rows: list[list[int]]) -> None:
    """Put the coefficients of a year's hours, some days a call; those that are there stay."""
    from ledger.calling import salted
    from ledger.rules.world import Declined, Reason

    step = 24 * max(1, _NUMBERS_A_CALL // (24 * len(rows[0])))
    for start in range(0, len(rows), step):
        given = {"group": community.name, "from_ms": from_ms, "year": year, "first_hour": start + 1}
        try:
            secret = {"coefficients": salted({"rows": rows[start : start + step]})}
            community.contracts.call("sharing", "PutHours", given, secret)
        except Declined as declined:
            if declined.reason is not Reason.EXISTS:
                raise


def _say(community: Community, settled: Settled) -> None:
    from ledger import moments

    at = moments.shown(settled.stretch.first_ms, community.zone)
    if settled.run is None:
        print(f"{at}  not settled: {settled.declined}")
        return
    counts = settled.run["periods"]
    words = ", ".join(f"{counts[word]} {word}" for word in ("settled", "provisional", "open") if counts[word])
    if settled.new:
        print(f"{at}  {words} (version {settled.run['version']})", flush=True)


def _summary(group: str, done: list[Settled], took_s: float) -> None:
    if not done:
        print(f"{group}: nothing is due")
        return
    counts = dict.fromkeys(("settled", "provisional", "open"), 0)
    for each in done:
        for word, count in each.run["periods"].items() if each.run else ():
            counts[word] += count
    words = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count or word == "settled")
    new = sum(each.new for each in done)
    print(f"{group}: {words}; {new} of {len(done)} stretches are new, {took_s:.1f} s")
    if counts["provisional"] or counts["open"]:
        print(f"  try: aigeco-peer settle state {group}")


def _told(settled: Settled) -> dict[str, Any]:
    stretch = {"first_ms": settled.stretch.first_ms, "count": settled.stretch.count}
    told = {"new": settled.new, "declined": settled.declined or None}
    if settled.run is None:
        return stretch | {"version": settled.stretch.version, "periods": None} | told
    return stretch | {"version": settled.run["version"], "periods": settled.run["periods"]} | told


for _each in (state, results, statement, transfers, files, order, dispute, origin):
    command.add_command(_each)

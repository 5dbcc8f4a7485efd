"""``aigeco-peer settle state|results|statement|files``: what is settled, read by whoever may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import calling
from ledger.cli.exits import Exit, Refused
from ledger.cli.group import (
    FILE,
    euro,
    json_option,
    kwh,
    member_option,
    micro_euro,
    month_ms,
    month_option,
    opened,
    supplies_in,
)

if TYPE_CHECKING:
    from ledger.cli.calling import Place
    from ledger.community import Community, Doubt

_COLUMNS = {
    "allotted": "allotted",
    "consumed": "consumed",
    "self_consumed": "self-used",
    "surplus": "surplus",
    "from_grid": "from grid",
}
_MOST_NAMES = 3


@click.command("state", short_help="Show what is settled and what is open.")
@click.argument("group")
@click.option("--month", metavar="YYYY-MM", help="This month only.")
@json_option
@calling.options
def state(group: str, month: str | None, as_json: bool, place: Place) -> int:
    """Show how far GROUP is settled, month by month, and the reasons for what is provisional or open."""
    with opened(place, group) as community:
        from_ms, until_ms = month_ms(community, month) if month else _always(community)
        runs = list(community.runs(from_ms, until_ms))
        found = _doubts(community, from_ms, until_ms)
    if as_json:
        told = None if found is None else [_doubt(each) for each in found]
        print(json.dumps({"group": group, "stretches": runs, "doubts": told}, indent=2))
        return Exit.OK
    from ledger.cli.table import table

    table(f"Periods of {group}", ("month", "days", "settled", "provisional", "open"), _months(community, runs))
    if found is None:
        print("\nreasons are for those who may read the results")
    elif found:
        print()
        rows = [_shown(community, each) for each in found]
        table("Provisional and open", ("from", "until", "reason", "whose"), rows)
    return Exit.OK


@click.command("results", short_help="Show members' energy.")
@click.argument("group")
@month_option
@member_option
@click.option("--by", default="month", show_default=True, type=click.Choice(["month", "day", "period"]))
@json_option
@calling.options
def results(group: str, month: str, member: str | None, by: str, as_json: bool, place: Place) -> int:
    """Show what each member of GROUP was allotted, consumed, had over and took from the grid, in kWh.

    Sums are of the periods whose numbers are known; how many are not is said with them.
    """
    from ledger.community import sums

    with opened(place, group) as community:
        from_ms, until_ms = month_ms(community, month)
        found = list(community.all_results(from_ms, until_ms, member))
    spans = _spans(community, from_ms, until_ms, by)
    told = [(label, name, total) for label, start, end in spans for name, total in sums(found, start, end).items()]
    told = [(label, name, total) for label, name, total in told if any(total[word] for word in _STATES)]
    if as_json:
        rows = [{by: label, "member": name, "wh": _wh(total), "periods": _counts(total)} for label, name, total in told]
        print(json.dumps({"group": group, "month": month, "results": rows}, indent=2))
        return Exit.OK
    from ledger.cli.table import table

    shown = [
        {
            by: label,
            "member": name,
            **{title: kwh(total[key]) for key, title in _COLUMNS.items()},
            "open": total["open"],
        }
        for label, name, total in told
    ]
    head = [] if by == "month" else [by]
    table(f"kWh of {group}, {month}", (*head, "member", *_COLUMNS.values(), "open"), shown)
    return Exit.OK


@click.command("statement", short_help="Show the month's statement.")
@click.argument("group")
@month_option
@member_option
@click.option("--buy", metavar="EUR", help="Price of a kWh taken from the grid.")
@click.option("--sell", metavar="EUR", help="Price of a kWh of surplus.")
@click.option("--prices", type=FILE, help="CSV hour;buy;sell, a line for each hour of the month as it passes, from 1.")
@json_option
@calling.options
def statement(
    group: str,
    month: str,
    member: str | None,
    buy: str | None,
    sell: str | None,
    prices: Path | None,
    as_json: bool,
    place: Place,
) -> int:
    """Show the month's statement under simplified compensation (RD 244/2019, article 14), in euro.

    The surplus pays for what was bought in the same month, and for no more. Taxes, tolls and fixed terms are no part
    of it.
    """
    if prices is None and (buy is None or sell is None):
        raise Refused("prices are missing", Exit.USAGE, "--buy 0.15 --sell 0.06, or --prices FILE")
    if prices is not None and (buy or sell):
        raise Refused("--prices is there beside --buy or --sell", Exit.USAGE, "one of them")
    with opened(place, group) as community:
        start_ms, end_ms = month_ms(community, month)
        year, number = int(month[:4]), int(month[5:])
        dear: int | list[int]
        cheap: int | list[int]
        if prices is not None:
            dear, cheap = _prices(prices, (end_ms - start_ms) // 3_600_000)
        else:
            dear, cheap = micro_euro(buy or "", "--buy"), micro_euro(sell or "", "--sell")
        given = {"group": group, "year": year, "month": number, "buy": dear, "sell": cheap}
        names = [member] if member else [each["member"] for each in community.members()]
        rows = [
            json.loads(community.contracts.ask("sharing", "Statement", {**given, "member": name})) for name in names
        ]
    if as_json:
        print(json.dumps({"group": group, "month": month, "statements": rows}, indent=2))
        return Exit.OK
    from ledger.cli.table import table

    shown = [
        {
            "member": row["member"],
            "kWh bought": kwh(row["wh"]["from_grid"]),
            "kWh surplus": kwh(row["wh"]["surplus"]),
            "bought": euro(row["cents"]["bought"]),
            "surplus": euro(row["cents"]["surplus_value"]),
            "set off": euro(row["cents"]["compensated"]),
            "to pay": euro(row["cents"]["to_pay"]),
        }
        for row in rows
    ]
    columns = ("member", "kWh bought", "kWh surplus", "bought", "surplus", "set off", "to pay")
    table(f"Statement of {group}, {month}, EUR", columns, shown)
    provisional = max((row["provisional"] for row in rows), default=0)
    if provisional:
        print(f"\nup to {provisional} periods are provisional")
    return Exit.OK


@click.command("files", short_help="Write files for the distributor.")
@click.argument("group")
@month_option
@click.option("--cups", type=FILE, required=True, help="CSV member;CUPS; who is not in it is not in the files.")
@click.option("--cau", required=True, help="Code of the installation, part of the file's name.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder; else here.")
@calling.options
def files(group: str, month: str, cups: Path, cau: str, out: Path, place: Place) -> int:
    """Write the coefficients of GROUP, CAU_YEAR.txt, and a month's results, CAU_YEAR-MONTH.csv.

    The layouts, and which of them no source confirms, are in docs/settlement.md.
    """
    from ledger.files import Coefficients, coefficient_name, write_coefficients, write_shares

    supplies = supplies_in(cups)
    with opened(place, group) as community:
        from_ms, until_ms = month_ms(community, month)
        found = community.all_results(from_ms, until_ms)
        agreements = [each for each in community.agreements() if each["from_ms"] < until_ms]
        parts = community.coefficients(agreements[-1]) if agreements and agreements[-1]["kind"] == "fixed" else None
        shares = write_shares(found, supplies, community.zone)
    out.mkdir(parents=True, exist_ok=True)
    written = [out / f"{cau}_{month}.csv"]
    written[0].write_text(shares)
    if parts:
        missing = [name for name in parts if name not in supplies]
        if missing:
            raise Refused(f"{cups} lacks {', '.join(missing)}", Exit.USAGE, "a line member;CUPS for each member")
        table = Coefficients(tuple(supplies[name] for name in parts), (tuple(parts.values()),))
        written.insert(0, out / coefficient_name(cau, int(month[:4])))
        written[0].write_text(write_coefficients(table), newline="")
    for path in written:
        print(path)
    return Exit.OK


_STATES = ("settled", "provisional", "open")


def _doubts(community: Community, from_ms: int, until_ms: int) -> list[Doubt] | None:
    """What is not settled for good, and why; None: not for whoever asks."""
    from ledger.rules.world import Declined, Reason

    try:
        return list(community.doubts(from_ms, until_ms))
    except Declined as declined:
        if declined.reason is not Reason.FORBIDDEN:
            raise
        return None


def _always(community: Community) -> tuple[int, int]:
    import time

    begun = [each["from_ms"] for each in community.agreements()]
    return min(begun, default=0), int(time.time() * 1000) if begun else 1


def _months(community: Community, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from ledger.rules import hours

    rows: dict[str, dict[str, Any]] = {}
    days: dict[str, set[object]] = {}
    for run in runs:
        first = hours.local(run["first_ms"], community.zone)
        name = f"{first:%Y-%m}"
        row = rows.setdefault(name, {"month": name, **dict.fromkeys(_STATES, 0)})
        days.setdefault(name, set()).add(first.date())
        for word in _STATES:
            row[word] += run["periods"][word]
    return [{**row, "days": len(days[name])} for name, row in rows.items()]


def _shown(community: Community, doubt: Doubt) -> dict[str, Any]:
    from ledger import moments

    start, end = (moments.shown(at_ms, community.zone) for at_ms in (doubt.start_ms, doubt.end_ms))
    names = ", ".join(doubt.members[:_MOST_NAMES]) + ("..." if len(doubt.members) > _MOST_NAMES else "")
    return {
        "from": start,
        "until": end[11:] if end[:10] == start[:10] else end[5:],
        "reason": f"{doubt.state}: {doubt.reason}",
        "whose": "everybody" if doubt.everybody else names,
    }


def _doubt(doubt: Doubt) -> dict[str, Any]:
    return {
        "from_ms": doubt.start_ms,
        "until_ms": doubt.end_ms,
        "periods": doubt.periods,
        "state": doubt.state,
        "reason": doubt.reason,
        "members": list(doubt.members),
    }


def _spans(community: Community, from_ms: int, until_ms: int, by: str) -> list[tuple[str, int, int]]:
    """Label, first instant and end of what is summed up."""
    from ledger import moments

    if by == "month":
        return [(moments.shown(from_ms, community.zone)[:7], from_ms, until_ms)]
    found, at_ms = [], from_ms
    while at_ms < until_ms:
        day = by == "day"
        end_ms = moments.next_midnight(at_ms, community.zone) if day else at_ms + community.period_ms
        label = moments.shown(at_ms, community.zone)
        found.append((label[:10] if day else label, at_ms, end_ms))
        at_ms = end_ms
    return found


def _wh(total: dict[str, int]) -> dict[str, int]:
    return {key: total[key] for key in _COLUMNS}


def _counts(total: dict[str, int]) -> dict[str, int]:
    return {word: total[word] for word in _STATES}


def _prices(file: Path, hours: int) -> tuple[list[int], list[int]]:
    """Micro-euro per kWh of each hour of a month, to buy and to sell."""
    dear, cheap = [], []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        fields = line.split(";")
        if len(fields) != 3 or fields[0].strip() != str(number):
            raise Refused(f"{file}: line {number}: {number};buy;sell is needed", Exit.USAGE, f"{number};0,15;0,06")
        dear.append(micro_euro(fields[1].strip(), f"{file}: line {number}:"))
        cheap.append(micro_euro(fields[2].strip(), f"{file}: line {number}:"))
    if len(dear) != hours:
        raise Refused(f"{file}: {len(dear)} lines, and the month has {hours} hours", Exit.USAGE)
    return dear, cheap

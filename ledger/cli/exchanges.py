"""``aigeco-peer settle transfers|order|dispute``: what members gave one another, and what they say about it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import calling
from ledger.cli.exits import Exit
from ledger.cli.group import json_option, kwh, member_option, micro_euro, moment, month_ms, month_option, opened

if TYPE_CHECKING:
    from ledger.cli.calling import Place


@click.command("transfers", short_help="Show who gave whom.")
@click.argument("group")
@month_option
@member_option
@json_option
@calling.options
def transfers(group: str, month: str, member: str | None, as_json: bool, place: Place) -> int:
    """Show what each member's surplus of GROUP gave to the others and to the grid in a month, in kWh."""
    with opened(place, group) as community:
        from_ms, until_ms = month_ms(community, month)
        given: Counter[tuple[str, str]] = Counter()
        grid: dict[str, Counter[str]] = {"to_grid": Counter(), "from_grid": Counter()}
        for found in community.transfers(from_ms, until_ms, member):
            run = found["run"]
            inside = range(
                max(0, (from_ms - run["first_ms"]) // run["period_ms"]),
                min(run["count"], (until_ms - run["first_ms"]) // run["period_ms"]),
            )
            for name, part in found["members"].items():
                for number, other, wh, _ in part["given"]:
                    if number in inside:
                        given[name, other] += wh
                for number, other, wh, _ in part["received"] if member else ():
                    if number in inside:
                        given[other, name] += wh
                for way, sums in grid.items():
                    sums[name] += sum(part[way][number] or 0 for number in inside)
    rows: list[dict[str, Any]] = [
        {"from": seller, "to": buyer, "wh": wh} for (seller, buyer), wh in sorted(given.items()) if wh
    ]
    rows += [{"from": name, "to": "(grid)", "wh": wh} for name, wh in sorted(grid["to_grid"].items())]
    rows += [{"from": "(grid)", "to": name, "wh": wh} for name, wh in sorted(grid["from_grid"].items())]
    if as_json:
        print(json.dumps({"group": group, "month": month, "transfers": rows}, indent=2))
        return Exit.OK
    from ledger.cli.table import table

    title = f"Who gave whom, {group}, {month}"
    table(title, ("from", "to", "kWh"), [{**row, "kWh": kwh(row["wh"])} for row in rows])
    return Exit.OK


@click.group("order", short_help="Standing orders between two members.")
def order() -> None:
    """Standing orders: a seller offers a buyer part of its surplus, the buyer accepts the same terms.

    Members call themselves: --as with the identity of the member.
    """


@order.command("offer", short_help="Offer surplus to a member.")
@click.argument("group")
@click.argument("seller")
@click.argument("buyer")
@click.option("--from", "from_", metavar="TIME", required=True, help="From when on; not past.")
@click.option("--limit", required=True, type=click.IntRange(1), metavar="WH", help="At most in each period.")
@click.option("--price", required=True, metavar="EUR", help="Of a kWh.")
@calling.options
def offer(group: str, seller: str, buyer: str, from_: str, limit: int, price: str, place: Place) -> int:
    """SELLER offers BUYER so much of its surplus. Called by the seller."""
    _terms(group, seller, buyer, from_, limit, price, place, "Offer")
    print(f"{seller} offers {buyer} up to {limit} Wh a period at {price} EUR/kWh from {from_} on")
    return Exit.OK


@order.command("accept", short_help="Accept an offer.")
@click.argument("group")
@click.argument("seller")
@click.argument("buyer")
@click.option("--from", "from_", metavar="TIME", required=True, help="As it was offered.")
@click.option("--limit", required=True, type=click.IntRange(1), metavar="WH", help="As it was offered.")
@click.option("--price", required=True, metavar="EUR", help="As it was offered.")
@calling.options
def accept(group: str, seller: str, buyer: str, from_: str, limit: int, price: str, place: Place) -> int:
    """BUYER accepts what SELLER offers, with the same terms. Called by the buyer, before it begins."""
    _terms(group, seller, buyer, from_, limit, price, place, "Accept")
    print(f"{buyer} accepts up to {limit} Wh a period of {seller} at {price} EUR/kWh from {from_} on")
    return Exit.OK


@order.command("end", short_help="End an order.")
@click.argument("group")
@click.argument("seller")
@click.argument("buyer")
@click.option("--from", "from_", metavar="TIME", required=True, help="As it was offered.")
@click.option("--until", metavar="TIME", required=True, help="It ends then; not past.")
@calling.options
def end(group: str, seller: str, buyer: str, from_: str, until: str, place: Place) -> int:
    """End an order between SELLER and BUYER. Called by either."""
    with opened(place, group) as community:
        given = {"group": group, "seller": seller, "buyer": buyer}
        times = {"from_ms": moment(community, "--from", from_), "until_ms": moment(community, "--until", until)}
        community.contracts.call("exchanges", "EndOrder", given | times)
    print(f"the order of {seller} and {buyer} ends {until}")
    return Exit.OK


@order.command("list", short_help="List the orders.")
@click.argument("group")
@json_option
@calling.options
def list_orders(group: str, as_json: bool, place: Place) -> int:
    """List the orders of GROUP, without their terms."""
    with opened(place, group) as community:
        rows = json.loads(community.contracts.ask("exchanges", "Orders", {"group": group}))
    if as_json:
        print(json.dumps({"group": group, "orders": rows}, indent=2))
        return Exit.OK
    from ledger import moments
    from ledger.cli.table import table

    for row in rows:
        row["from"] = moments.shown(row["from_ms"], community.zone)
        row["until"] = None if row["until_ms"] is None else moments.shown(row["until_ms"], community.zone)
    table(f"Orders of {group}", ("seller", "buyer", "state", "from", "until"), rows)
    return Exit.OK


@click.group("dispute", short_help="Disputes about who gave whom.")
def dispute() -> None:
    """Disputes: a member objects to the exchanges of a day, the settler upholds or rejects it."""


@dispute.command("raise", short_help="Object to a day's exchanges.")
@click.argument("group")
@click.argument("member")
@click.argument("day")
@click.argument("words")
@calling.options
def raise_(group: str, member: str, day: str, words: str, place: Place) -> int:
    """MEMBER objects to the exchanges of DAY, in WORDS that only the group's settlers see. Called by the member."""
    from ledger.calling import salted

    with opened(place, group) as community:
        first_ms = moment(community, "DAY", day)
        given = {"group": group, "first_ms": first_ms, "member": member}
        secret = {"words": salted({"words": words})}
        found = json.loads(community.contracts.call("exchanges", "Dispute", given, secret))
    print(f"dispute {found['dispute']} about version {found['version']}")
    return Exit.OK


@dispute.command("resolve", short_help="Uphold or reject a dispute.")
@click.argument("group")
@click.argument("day")
@click.argument("name")
@click.argument("outcome", type=click.Choice(["upheld", "rejected"]))
@calling.options
def resolve(group: str, day: str, name: str, outcome: str, place: Place) -> int:
    """Resolve dispute NAME about DAY. Upheld only when a newer version than the disputed one is there (settle run)."""
    with opened(place, group) as community:
        given = {"group": group, "first_ms": moment(community, "DAY", day), "dispute": name, "outcome": outcome}
        community.contracts.call("exchanges", "Resolve", given)
    print(f"dispute {name} is {outcome}")
    return Exit.OK


@dispute.command("list", short_help="List disputes.")
@click.argument("group")
@click.argument("day")
@json_option
@calling.options
def list_disputes(group: str, day: str, as_json: bool, place: Place) -> int:
    """List the disputes about the exchanges of DAY."""
    with opened(place, group) as community:
        given = {"group": group, "first_ms": moment(community, "DAY", day)}
        rows = json.loads(community.contracts.ask("exchanges", "Disputes", given))
    if as_json:
        print(json.dumps({"group": group, "disputes": rows}, indent=2))
        return Exit.OK
    from ledger.cli.table import table

    shown = [{**row, "after": row.get("after")} for row in rows]
    table(f"Disputes of {group}, {day}", ("dispute", "member", "version", "state", "after"), shown)
    return Exit.OK


def _terms(
    group: str, seller: str, buyer: str, from_: str, limit: int, price: str, place: Place, function: str
) -> None:
    from ledger.calling import salted

    terms = {"limit_wh": limit, "price": micro_euro(price, "--price")}
    with opened(place, group) as community:
        given = {"group": group, "seller": seller, "buyer": buyer, "from_ms": moment(community, "--from", from_)}
        community.contracts.call("exchanges", function, given, {"terms": salted(terms)})

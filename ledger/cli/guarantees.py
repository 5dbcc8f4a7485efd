"""``aigeco-peer settle origin``: guarantees of origin, one for each whole kWh that a generator made."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import calling
from ledger.cli.exits import Exit, Refused
from ledger.cli.group import json_option

if TYPE_CHECKING:
    from ledger.cli.calling import Place

_zone = click.option(
    "--zone", default="peninsula", show_default=True, type=click.Choice(["peninsula", "canarias"]), help="Of times."
)


@click.group("origin", short_help="Guarantees of origin.")
def origin() -> None:
    """Guarantees of origin: issued for each whole kWh of a generator's register, transferred, retired once."""


@origin.command("register", short_help="Register a generator.")
@click.argument("device")
@click.option("--at", metavar="GATEWAY/METER", required=True, help="Where it is measured.")
@click.option("--owner", metavar="[MSPID/]MEMBER", required=True, help="Whose the guarantees are at first.")
@click.option("--from", "from_", metavar="TIME", required=True, help="Certified from then on.")
@_zone
@calling.options
def register(device: str, at: str, owner: str, from_: str, zone: str, place: Place) -> int:
    """Register the generator DEVICE. Called by an issuer."""
    gateway, slash, sub = at.partition("/")
    if not slash:
        raise Refused(f"--at {at}: gateway and meter are needed", Exit.USAGE, "--at home-1/pv")
    with calling.contracts(place) as contracts:
        given = {"device": device, "gateway": gateway, "sub": sub, **_account(owner, contracts.organisation)}
        contracts.call("origin", "RegisterDevice", given | {"from_ms": _instant("--from", from_, zone)})
    print(f"device {device} is certified from {from_} on, for {owner}")
    return Exit.OK


@origin.command("issue", short_help="Issue guarantees.")
@click.argument("device")
@click.option("--until", metavar="TIME", required=True, help="For what was generated up to then.")
@_zone
@json_option
@calling.options
def issue(device: str, until: str, zone: str, as_json: bool, place: Place) -> int:
    """Issue the guarantees of what DEVICE has generated since the last issue. Called by an issuer."""
    with calling.contracts(place) as contracts:
        given = {"device": device, "until_ms": _instant("--until", until, zone)}
        lot = json.loads(contracts.call("origin", "Issue", given))
    if as_json:
        print(json.dumps(lot, indent=2))
    else:
        print(f"{lot['count']} kWh of {device} are certified: numbers {_numbers(lot)}")
    return Exit.OK


@origin.command("skip", short_help="Certify nothing up to a time.")
@click.argument("device")
@click.option("--until", metavar="TIME", required=True, help="What flowed up to then is never certified.")
@click.option("--why", required=True, help="Kept with it.")
@_zone
@calling.options
def skip(device: str, until: str, why: str, zone: str, place: Place) -> int:
    """Go on behind a reset or an exchange of the meter of DEVICE. Called by an issuer."""
    with calling.contracts(place) as contracts:
        contracts.call("origin", "Skip", {"device": device, "until_ms": _instant("--until", until, zone), "why": why})
    print(f"{device} is certified again from {until} on")
    return Exit.OK


@origin.command("list", short_help="List guarantees.")
@click.argument("device")
@json_option
@calling.options
def list_(device: str, as_json: bool, place: Place) -> int:
    """List the guarantees of DEVICE: whose they are, which are retired and for what."""
    with calling.contracts(place) as contracts:
        lots = json.loads(contracts.ask("origin", "Lots", {"device": device}))
    if as_json:
        print(json.dumps({"device": device, "lots": lots}, indent=2))
        return Exit.OK
    from ledger.cli.table import table

    rows = [
        {
            "numbers": _numbers(lot),
            "kWh": lot["count"],
            "owner": f"{lot['owner']['organisation']}/{lot['owner']['member']}",
            "state": lot["state"],
            "for": lot.get("for"),
        }
        for lot in lots
    ]
    table(f"Guarantees of {device}", ("numbers", "kWh", "owner", "state", "for"), rows)
    return Exit.OK


@origin.command("transfer", short_help="Give guarantees away.")
@click.argument("device")
@click.argument("first", type=click.IntRange(1))
@click.argument("count", type=click.IntRange(1))
@click.option("--to", metavar="[MSPID/]MEMBER", required=True, help="Whose they are from now on.")
@calling.options
def transfer(device: str, first: int, count: int, to: str, place: Place) -> int:
    """Give COUNT guarantees of DEVICE away, from number FIRST on. Called by their owner."""
    with calling.contracts(place) as contracts:
        given = {"device": device, "first": first, "count": count, **_account(to, contracts.organisation)}
        lot = json.loads(contracts.call("origin", "Transfer", given))
    print(f"numbers {_numbers(lot)} of {device} are {to}'s")
    return Exit.OK


@origin.command("retire", short_help="Use guarantees up.")
@click.argument("device")
@click.argument("first", type=click.IntRange(1))
@click.argument("count", type=click.IntRange(1))
@click.option("--for", "for_", required=True, help="For whom or what.")
@calling.options
def retire(device: str, first: int, count: int, for_: str, place: Place) -> int:
    """Use COUNT guarantees of DEVICE up, from number FIRST on, once and for ever. Called by their owner."""
    with calling.contracts(place) as contracts:
        given = {"device": device, "first": first, "count": count, "for": for_}
        lot = json.loads(contracts.call("origin", "Retire", given))
    print(f"numbers {_numbers(lot)} of {device} are retired, for {for_}")
    return Exit.OK


def _numbers(lot: dict[str, Any]) -> str:
    return f"{lot['first']}-{lot['first'] + lot['count'] - 1}"


def _account(given: str, organisation: str) -> dict[str, str]:
    named, slash, member = given.rpartition("/")
    return {"organisation": named if slash else organisation, "member": member}


def _instant(option: str, text: str, zone: str) -> int:
    from ledger import moments

    try:
        return moments.instant(text, zone)
    except moments.BadTime as error:
        raise Refused(f"{option}: {error}", Exit.USAGE) from None

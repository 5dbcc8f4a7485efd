"""What commands about a community share: the group, times and months as people write them, money and energy shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli import calling
from ledger.cli.exits import Exit, Refused

if TYPE_CHECKING:
    from ledger.cli.calling import Place
    from ledger.community import Community

_MICRO = 1_000_000

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
month_option = click.option("--month", metavar="YYYY-MM", required=True, help="Of legal time.")
member_option = click.option("--member", help="Of this member only, who may ask so.")


@contextmanager
def opened(place: Place, group: str) -> Iterator[Community]:
    """The group on its ledger."""
    from ledger.community import Community

    with calling.contracts(place) as contracts:
        yield Community(contracts, group)


def moment(community: Community, option: str, text: str) -> int:
    """The instant that an option names, in the group's legal time.

    Raises:
        Refused: it is none.
    """
    from ledger import moments

    try:
        return moments.instant(text, community.zone)
    except moments.BadTime as error:
        raise Refused(f"{option}: {error}", Exit.USAGE) from None


def month_ms(community: Community, text: str) -> tuple[int, int]:
    """When the month that an option names begins and ends.

    Raises:
        Refused: it is none.
    """
    from ledger import moments

    try:
        return community.month_ms(*moments.month(text))
    except moments.BadTime as error:
        raise Refused(f"--month: {error}", Exit.USAGE) from None


def supplies_in(file: Path) -> dict[str, str]:
    """Member -> CUPS, of a CSV file ``member;CUPS``.

    Raises:
        Refused: a line is none, or a name is there twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip():
            continue
        member, separator, supply = (part.strip() for part in line.partition(";"))
        if not separator or not member or not supply or ";" in supply:
            raise Refused(f"{file}: line {number}: member;CUPS is needed", Exit.USAGE, "ana;ES0021000000000001AA1P")
        if member in found or supply in found.values():
            raise Refused(f"{file}: line {number}: {member} or {supply} is there twice", Exit.USAGE)
        found[member] = supply
    return found


def members_of(supplies: tuple[str, ...], cups: Path | None) -> list[str]:
    """The members whom a file of coefficients names by their supply points.

    Raises:
        Refused: one is not in the file of supply points.
    """
    if cups is None:
        return list(supplies)
    known = {supply: member for member, supply in supplies_in(cups).items()}
    for supply in supplies:
        if supply not in known:
            raise Refused(f"{cups} does not say whose {supply} is", Exit.USAGE, f"a line member;{supply}")
    return [known[supply] for supply in supplies]


def micro_euro(text: str, option: str) -> int:
    """Micro-euro per kWh of a price in euro per kWh, ``0.15`` or ``0,15``.

    Raises:
        Refused: it is none, or has more than six decimals.
    """
    try:
        price = Decimal(text.replace(",", "."))
        whole = price * _MICRO
        if not price.is_finite() or whole != int(whole):
            raise InvalidOperation
    except InvalidOperation:
        raise Refused(
            f"{option} {text[:40]}: a price in euro per kWh, six decimals at most", Exit.USAGE, "0.15"
        ) from None
    return int(whole)


def kwh(wh: int | None) -> str:
    """``1.234`` of 1,234 Wh."""
    return "-" if wh is None else f"{'-' * (wh < 0)}{abs(wh) // 1000:,}.{abs(wh) % 1000:03}"


def euro(cents: int) -> str:
    """``12.34`` of 1,234 cents."""
    return f"{'-' * (cents < 0)}{abs(cents) // 100:,}.{abs(cents) % 100:02}"


def share(millionths: int) -> str:
    """``0.25`` of 250,000 millionths."""
    return f"{millionths // _MICRO}.{millionths % _MICRO:06}".rstrip("0").rstrip(".")

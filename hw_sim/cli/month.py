"""``aigeco-sim month``: a past month of a community, as its gateways would have signed it, in files."""

from __future__ import annotations

import re
from pathlib import Path

import click

_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


@click.command("month", short_help="Write a community's past month as signed batches.")
@click.argument("month", metavar="YYYY-MM")
@click.option("--members", default=6, show_default=True, type=click.IntRange(1, 100), help="How many homes.")
@click.option("--seed", default=0, show_default=True, help="Another seed, other days.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write into.")
def command(month: str, members: int, seed: int, out: Path) -> None:
    """Write what the gateways of homes and of their common roof would have signed in a month, to try a ledger with.

    A statement at each quarter hour, in batches for the contract measurements (SubmitBatch), and gateways.pem, the
    authority that issued the gateways' certificates. docs/settlement.md settles such a month.
    """
    from hw_sim import month as months
    from ledger.rules import hours

    found = _MONTH.fullmatch(month)
    if not found:
        raise click.UsageError(f"{month[:40]!r} is no month: 2026-10")
    start_ms, end_ms = hours.month_ms(int(found[1]), int(found[2]), "peninsula")
    for written in months.write(out, start_ms, end_ms, members, seed):
        click.echo(f"{written.gateway}: {len(written.files)} batches, {written.files[0].name} ...")

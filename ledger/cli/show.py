"""``aigeco-peer show``: what is in the ledger."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli import where
from ledger.cli.exits import Exit

if TYPE_CHECKING:
    from ledger.embedded import LedgerFile

_COLUMNS = {
    "streams": ("gateway", "stream", "seq", "head", "recovers"),
    "batches": ("block", "time", "stream", "first", "count", "root"),
    "forks": ("time", "stream", "seq", "committed", "other"),
}
# A ledger holds a batch every few seconds for years: the last ones are what somebody looks for.
_LAST = 20


@click.command("show", short_help="Show streams, batches and forks.")
@click.argument("what", type=click.Choice(list(_COLUMNS)), default="streams")
@click.option("--last", default=_LAST, show_default=True, help="How many batches; 0 shows all.")
@click.option("--check", is_flag=True, help="Recompute the chain of all commits first.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@where.option
def command(what: str, last: int, check: bool, as_json: bool, config_path: Path | None) -> int:
    """Show the heads of the streams, the batches committed last, or the recorded forks."""
    from ledger import config as configuration
    from ledger.embedded import LedgerFile

    config = configuration.load(where.find(config_path))
    file = LedgerFile(config.file, config.organisation, read_only=True)
    try:
        if check:
            file.check_chain()
        rows = _rows(file, what, last)
        block = file.last()[0]
    finally:
        file.close()
    if as_json:
        print(json.dumps({"organisation": config.organisation, "block": block, what: rows}, indent=2))
    else:
        from ledger.cli.table import table

        table(f"{what.capitalize()} of {config.organisation}, block {block}", _COLUMNS[what], rows)
    return Exit.OK


def _rows(file: LedgerFile, what: str, last: int) -> list[dict[str, Any]]:
    if what == "streams":
        return [
            {
                "gateway": stream.gateway,
                "stream": stream.stream.hex(),
                "seq": stream.seq,
                "head": stream.head.hex(),
                "recovers": stream.recovers.hex() if stream.recovers else None,
            }
            for stream in file.streams()
        ]
    if what == "forks":
        return [
            {
                "time": _time(seen.seen_s),
                "stream": seen.fork.stream.hex(),
                "seq": seen.fork.seq,
                "committed": seen.fork.committed.hex(),
                "other": seen.fork.other.hex(),
                "statement": seen.fork.statement.hex(),
            }
            for seen in file.forks()
        ]
    after = max(0, file.last()[0] - last) if last else 0
    return [
        {
            "block": commit.block,
            "time": _time(commit.issued_s),
            "stream": commit.stream.hex(),
            "first": commit.first,
            "count": commit.count,
            "root": commit.root.hex(),
            "transaction": commit.transaction.hex(),
        }
        for commit in file.commits(after)
    ]


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

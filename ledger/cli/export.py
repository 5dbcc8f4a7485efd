"""``aigeco-peer export``: what the embedded ledger keeps of one member, as a folder that the member can verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli import calling, where
from ledger.cli.erase import moment_of
from ledger.cli.exits import Exit, Refused
from ledger.cli.group import json_option

if TYPE_CHECKING:
    from ledger.cli.calling import Place
    from ledger.config import PeerConfig
    from signer.trust import Trust


@click.command("export", short_help="Write what is kept of a member.")
@click.option("--member", metavar="NAME", required=True, help="Whose.")
@click.option("--group", metavar="GROUP", help="Also results, transfers and measuring points there.")
@click.option("--from", "from_", metavar="TIME", required=True, help="From when, 2026-10-01.")
@click.option("--until", metavar="TIME", required=True, help="To before when.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New or empty folder.")
@json_option
@calling.options
def command(member: str, group: str | None, from_: str, until: str, out: Path, as_json: bool, place: Place) -> int:
    """Write into DIR what is kept of a member in a time: its statements with all that proves them, and member.json.

    aigeco verify DIR verifies it without a network. Of other members there is nothing in it but digests.
    """
    from ledger import config as configuration
    from ledger.embedded import LedgerFile
    from ledger.export import export
    from signer.bundle import BundleProblem

    if not calling.embedded(place):
        words = "a network's receipts are with its organisations' ingestion peers: only an embedded ledger is exported"
        raise Refused(words, Exit.USAGE, "aigeco-peer settle, and query, show a member's data on a network")
    config = configuration.load(where.find(place.config))
    with calling.contracts(place) as contracts:
        from_ms, until_ms = (moment_of(contracts, group, *said) for said in (("--from", from_), ("--until", until)))
    if from_ms >= until_ms:
        raise Refused(f"--until {until} is not after --from {from_}", Exit.USAGE)
    file = LedgerFile(config.file, config.organisation, read_only=True)
    try:
        done = export(file, out, member, group, from_ms, until_ms, _trust(config))
    except BundleProblem as problem:
        raise Refused(str(problem), Exit.USAGE, "a new name, or an empty folder") from None
    finally:
        file.close()
    if as_json:
        counts = {name: getattr(done, name) for name in ("streams", "statements", "pruned", "receipts", "results")}
        print(json.dumps({"folder": str(out), **counts}))
        return Exit.OK
    print(f"{out}: {done.statements} statements, {done.pruned} more by their sid, {done.results} results")
    print(f"next: aigeco verify {out}")
    return Exit.OK


def _trust(config: PeerConfig) -> Trust:
    """The roots of gateways, and this organisation's, as the configuration has them."""
    from ledger.config import ConfigError, Problem, load_roots
    from signer.trust import Trust, Untrusted, load_pem

    problems: list[Problem] = []
    try:
        root = load_pem(config.receipt_certificate)[-1]
    except Untrusted as error:
        raise Refused(str(error), Exit.CONFIG, "receipts.certificate") from None
    trust = Trust(load_roots(config, problems), {config.organisation: (root,)})
    if problems:
        raise ConfigError(config.path, problems)
    return trust

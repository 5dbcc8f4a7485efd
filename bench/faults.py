"""Every complaint about bus owners as a scenario against the real agent, all at the same time, with its figures.

One ``aigeco run`` with a slot a second and a line (or more) for each scenario; its meters are simulated, over TCP and
over terminals at the pace of their baud rate, and fail on a timeline. Afterwards the evidence is exported, verified and
judged: what the agent says of itself counts for nothing.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench import place, stand
from bench.evidence import Evidence, Truth
from bench.options import show, small
from bench.report import Table
from bench.scenarios import SCENARIOS, Figure, Run, Scenario
from hw_sim.stage import command as command_of

# The homes live faster than we do, so that their meters move within a slot by more than a register's last digit.
_SITE = """seed = 11
[time]
start = 2026-06-21T09:00:00Z
speed = 20
[[home]]
name = "home"
pv_kwp = 5.0
"""
_COMMISSION_AT = 0.75

SMALL_S = 12.0
"""Long enough for every fault to begin and end."""


def measure(seconds: float, scenarios: Sequence[Scenario], site: place.Place) -> Run:
    """All scenarios at the same time, in a place of their own."""
    folder = site.folder
    (folder / "trust").mkdir()
    (folder / "trust" / "gateways.pem").write_bytes((folder / "ca.pem").read_bytes())
    for scenario in scenarios:
        for name, text in scenario.files.items():
            (folder / name).write_text(text())
    written = [line.write(folder) for scenario in scenarios for line in scenario.lines]
    faults = [fault.write(seconds) for scenario in scenarios for fault in scenario.faults]
    path = folder / "site.toml"
    path.write_text(_SITE + "".join(lines for lines, _ in written) + "".join(faults))
    site.write_config("".join(buses for _, buses in written), period_s=1, connected=False)
    moves = [word for scenario in scenarios for move in scenario.moves for word in move.option(seconds)]
    checked = json.loads(_aigeco(site, "config", "check", str(site.config), "--json").stdout)
    shown: dict[str, dict[str, Any]] = {}
    with stand.running(path, moves) as running:
        gateway = site.start_gateway()
        _sleep_until(running.start_s + _COMMISSION_AT * seconds)
        for meter in (meter for scenario in scenarios for meter in scenario.commissioned):
            words = ["commission", meter, "--technician", "bench", "--place", "bench", "--json"]
            shown[meter] = json.loads(_aigeco(site, *words, "--config", str(site.config)).stdout.splitlines()[0])
        _sleep_until(running.start_s + seconds)
        site.check()
        gateway.stop()
        seen = running.finish()
        evidence = Evidence(site.config, folder / "evidence", folder / "trust", Truth(path, running.clock_s))
    return Run(seconds, running.start_s, evidence, seen, checked, shown)


def table(run: Run, scenarios: Sequence[Scenario]) -> Table:
    """The figures of a run."""
    rows = []
    for scenario in scenarios:
        for number, figure in enumerate(scenario.judge(run)):
            rows.append((scenario.name if not number else "", *_cells(figure)))
    report = run.evidence.report
    slots = report["slots"].values()
    verified = f"{report['statements']:,} statements verified, {sum(each['expected'] for each in slots):,} slots"
    missing = sum(each["missing"] for each in slots)
    wrong = len(report["failures"]) + missing
    holds = Figure("failures, and slots not accounted for", str(wrong), "0", report["ok"] and not wrong)
    rows.append(("evidence", *_cells(holds)))
    return Table(
        f"Every complaint at the same time for {run.seconds:.0f} s: one aigeco run, a slot a second",
        ("complaint", "figure", "here", "goal"),
        tuple(rows),
        (*(f"{scenario.name}: {scenario.complaint}" for scenario in scenarios), f"evidence: {verified}"),
    )


def _cells(figure: Figure) -> tuple[str, str, str]:
    return figure.words, figure.value, f"{figure.goal}: {'met' if figure.met else 'MISSED'}"


def _sleep_until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))


def _aigeco(site: place.Place, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command_of("edge.cli.main"), *words], capture_output=True, text=True, check=False)


@click.command("faults", help=__doc__)
@click.option("--seconds", default=120.0, show_default=True, help="How long it runs.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the run's folder there (new or empty).")
@small
def command(seconds: float, keep: Path | None, tiny: bool) -> None:
    seconds = 4.0 if tiny else seconds
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    with place.fresh(folder=keep) as site:
        run = measure(seconds, SCENARIOS, site)
        show([table(run, SCENARIOS)])


if __name__ == "__main__":
    command()

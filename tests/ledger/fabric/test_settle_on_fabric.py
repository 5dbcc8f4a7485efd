"""``aigeco-peer settle`` on a real network: a community of two homes over a day, by commands only, each by who may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hw_sim import month
from ledger.fabric.commands import Commands
from ledger.moments import instant
from tests.fabricnet import running
from tests.ledger.fabric.test_network import aigeco_peer

pytestmark = pytest.mark.fabric

QUARTER = 900_000
FIRST = instant("2026-10-01", "peninsula")
COMMUNITY = "CommunityMSP"


def test_a_day_is_settled_late_data_settle_it_again_and_each_sees_their_part(
    fabric_commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "network"
    monkeypatch.setattr(month, "BATCH", 60)

    def do(who: str, *words: str, code: int = 0) -> str:
        done = aigeco_peer(folder, *words, "--as", who if "/" in who else f"{COMMUNITY}/{who}")
        assert done.code == code, f"{words}\n{done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout

    def submit(gateway: str, path: Path) -> None:
        given = ("--arguments", json.dumps({"gateway": gateway}), "--secret", f"batch=@{path}")
        assert json.loads(do("ingestion", "call", "measurements", "SubmitBatch", *given))["outcome"] == "committed"

    def settled(*words: str) -> Any:
        return json.loads(do("settler", "settle", *words, "--json"))

    with running(fabric_commands, folder, bare=False):
        written = list(month.write(tmp_path / "month", FIRST, FIRST + 96 * QUARTER, 2))
        do("registrar", "gateways", "trust", str(tmp_path / "month" / month.AUTHORITY))
        for each in written:
            do("registrar", "gateways", "add", each.gateway)
            for path in each.files:
                if path.name != "home-2-02.batch":
                    submit(each.gateway, path)
        do("settler", "settle", "create", "sol", "--minutes", "15")
        do("settler", "settle", "member", "sol", "ana", "ben")
        do("settler", "settle", "point", "sol", "roof", "--at", "roof/pv", "--from", "2026-10-01")
        for number, name in enumerate(("ana", "ben"), 1):
            place = ("--at", f"home-{number}/main", "--member", name, "--from", "2026-10-01")
            do("settler", "settle", "point", "sol", f"{name}-home", *place)
        (tmp_path / "parts.txt").write_text("ana;0,75\nben;0,25\n")
        do("settler", "settle", "coefficients", "sol", str(tmp_path / "parts.txt"), "--from", "2026-10-01")
        until = ("--until", "2026-10-02")
        (first,) = settled("run", "sol", *until)["stretches"]
        assert (first["version"], first["periods"]["open"] > 30) == (1, True)
        submit("home-2", tmp_path / "month" / "home-2-02.batch")
        (again,) = settled("run", "sol", *until)["stretches"]
        assert (again["version"], again["periods"]["settled"]) == (2, 96)
        assert settled("run", "sol", *until)["stretches"][0]["new"] is False

        rows = {row["member"]: row["wh"] for row in settled("results", "sol", "--month", "2026-10")["results"]}
        moved = settled("transfers", "sol", "--month", "2026-10")["transfers"]
        for name, wh in rows.items():
            assert sum(row["wh"] for row in moved if row["from"] == name) == wh["surplus"]
        said = aigeco_peer(folder, "network", "identity", COMMUNITY, "ana", "--attribute", "aigeco.member=ana")
        assert said.code == 0, said.stderr
        mine = ("settle", "results", "sol", "--month", "2026-10", "--member")
        assert json.loads(do("ana", *mine, "ana", "--json"))["results"][0]["wh"] == rows["ana"]
        assert "may not read the results of ben" in do("ana", *mine, "ben", code=4)
        assert "forbidden" in do("AggregatorMSP/aggregator", *mine, "ana", code=4)
        assert "2026-10" in do("AggregatorMSP/aggregator", "settle", "state", "sol")
        assert "not shown" in do("AggregatorMSP/aggregator", "settle", "show", "sol")

        device = ("--at", "roof/pv", "--owner", f"{COMMUNITY}/ana", "--from", "2026-10-01")
        do("AuditorMSP/issuer", "settle", "origin", "register", "pv", *device)
        assert "are certified" in do("AuditorMSP/issuer", "settle", "origin", "issue", "pv", "--until", "2026-10-02")
        assert "retired" in do("ana", "settle", "origin", "retire", "pv", "1", "1", "--for", "the bakery")

"""A settled number of a real network, traced back by an auditor at its own organisation's peer; and what was purged."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from drivers.reading import Block, Reading, exact
from ledger.calling import salted
from ledger.cli.main import cli
from ledger.rules.record import pack
from tests.fabricnet import ready, running
from tests.ledger.community import QUARTER
from tests.ledger.lines import START_MS, World, der, instant

if TYPE_CHECKING:
    from ledger.fabric.commands import Commands

COMMUNITY, DISTRIBUTOR, AUDITOR = "CommunityMSP", "DistributorMSP", "AuditorMSP"
ROLES = {"aigeco.role": "registrar settler ingestion issuer auditor eraser", "aigeco.member": "a"}
SHOWN = {"roof": (520, (5000, 7345)), "a-home": (264, (70, 470)), "b-home": (264, (90, 1490))}


def trace(folder: Path, who: str, *words: str, code: int = 0) -> Any:
    out, err = io.StringIO(), io.StringIO()
    given = ["trace", *words, "--network", str(folder), "--as", who, "--json"]
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        cli.main(given, prog_name="aigeco-peer")
    assert ended.value.code == code, f"{words}: {ended.value.code}\n{out.getvalue()[-4000:]}{err.getvalue()}"
    return json.loads(out.getvalue()) if out.getvalue() else err.getvalue()


def said(step: dict[str, Any], what: str) -> list[str]:
    """What every step of this kind says."""
    here = [step["said"]] if step["what"] == what else []
    return here + [each for part in step.get("parts", ()) for each in said(part, what)]


@pytest.mark.fabric
@pytest.mark.timeout(400)
def test_a_settled_number_is_traced_on_a_network(fabric_commands: Commands, tmp_path: Path) -> None:
    from ledger.fabric.calling import FabricContracts
    from ledger.fabric.connection import open_gateway
    from ledger.fabric.evidence import NetworkEvidence
    from ledger.fabric.network import life
    from ledger.trace.evidence import Fault

    folder = tmp_path / "network"
    with running(fabric_commands, folder, bare=False) as profile:
        life.issue(folder, COMMUNITY, "tess", ROLES)
        from ledger.fabric import profile as profiles

        profile = profiles.load(folder)
        gateway = open_gateway(profile, COMMUNITY, "tess")
        contracts = FabricContracts(gateway, profile, COMMUNITY, folder / "calls")

        def do(contract: str, function: str, secret: dict[str, bytes] | None = None, **given: object) -> Any:
            return json.loads(contracts.call(contract, function, pack(given), secret))

        world = World()
        ready(lambda: contracts.ask("registry", "List", pack({"kind": "organisation"})))
        for root in world.trust.gateways:
            do("registry", "SetAuthority", certificate=der(root).hex())
        do("registry", "RegisterGateway", gateway="alpha", owner=COMMUNITY)
        line = world.line().begin()
        for number in range(2):
            for sub, (key, wh) in SHOWN.items():
                at_ms = START_MS + number * QUARTER
                words = Block(3, 100, wh[number].to_bytes(4, "big"))
                reading = Reading(sub, at_ms, None, ((key, exact(wh[number], 0)),), 40, (words,))
                line.statements.append(line.chain.reading(reading, instant(at_ms + 40)))
        for first, count in ((0, 4), (4, 3)):
            do("measurements", "SubmitBatch", {"batch": line.batch(first, count).data}, gateway="alpha")
        stream = line.rest(0).stream.hex()
        do("sharing", "CreateGroup", group="g", zone="peninsula", period_ms=QUARTER)
        for name in ("a", "b"):
            do("sharing", "SetMember", group="g", member=name, organisation=COMMUNITY)
        for sub in SHOWN:
            kind = {"kind": "generation"} if sub == "roof" else {"kind": "consumption", "member": sub[0]}
            do("sharing", "AddPoint", group="g", point=sub, gateway="alpha", sub=sub, from_ms=START_MS, **kind)
        parts = {"coefficients": salted({"members": {"a": 700_000, "b": 300_000}})}
        do("sharing", "Agree", parts, group="g", from_ms=START_MS, kind="fixed")
        do("sharing", "Settle", group="g", first_ms=START_MS, count=1)
        do("exchanges", "Record", group="g", first_ms=START_MS)
        owner = {"organisation": COMMUNITY, "member": "a"}
        do("origin", "RegisterDevice", device="pv", gateway="alpha", sub="roof", from_ms=START_MS, **owner)
        do("origin", "Issue", device="pv", until_ms=START_MS + QUARTER)

        period = "2026-06-01T00:00Z"
        for who in (f"{COMMUNITY}/tess", f"{AUDITOR}/auditor"):
            for words in (
                ("settlement", "g", "a", period),
                ("transfer", "g", "a", "b", period),
                ("guarantee", "pv", "1"),
                ("statement", stream, "4"),
            ):
                found = trace(folder, who, *words)
                assert found["troubles"] == []
                assert found["counts"]["verified"] > 10
        told = trace(folder, f"{AUDITOR}/auditor", "settlement", "g", "a", period)["trace"]
        assert told["facts"]["consumed"] == 400
        assert all(block.endswith("VALID") for block in said(told, "block"))
        assert any("each followed by one that names it" in words for words in said(told, "ledger"))
        assert "forbidden" in trace(folder, "AggregatorMSP/aggregator", "settlement", "g", "a", period, code=4)

        evidence = NetworkEvidence(contracts, gateway.network(profile.channel))
        batch = evidence.ask("measurements", "Sids", stream=stream, seq=4)["batch"]
        with pytest.raises(Fault, match="has not written measurements batch/0"):
            evidence.written("measurements", "", "batch/0", batch["transaction"])
        with pytest.raises(Fault, match="knows no transaction"):
            evidence.block({**batch, "transaction": "00" * 32})

        do("measurements", "Purge", stream=stream, first=4, why="on request")
        found = trace(folder, f"{COMMUNITY}/tess", "settlement", "g", "a", period, code=5)
        assert found["counts"]["failed"] == 0
        assert any("purged by tess of CommunityMSP" in each["reason"] for each in found["troubles"])
        contracts.close()

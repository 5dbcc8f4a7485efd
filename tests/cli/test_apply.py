"""``aigeco config apply``: what the running gateway takes, what it refuses, and what a technician does next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signer.codes import Kind
from tests.edge.places import MODEL, Meters, bus_toml, make_folder, write_config
from tests.edge.test_agent import claims_of, running
from tests.edge.test_reload import BRISK, QUIET, meter_toml, until_read

Aigeco = Callable[..., Any]


def test_from_the_file_to_a_meter_in_service(aigeco: Aigeco, tmp_path: Path) -> None:
    with Meters(2) as meters:
        one = bus_toml(meters.port, "house")
        make_folder(tmp_path)
        settings = write_config(tmp_path, one)
        path = settings.path
        visit = ("commission", "pv", "--config", path, "--technician", "N. Puig", "--place", "roof 3", "--json")
        with running(tmp_path, QUIET, environment=BRISK) as agent:
            until_read(settings, "house")
            assert aigeco("config", "apply", path).out == f"{path}: nothing is different\n"

            # A file with an error, and one that needs a restart: nothing is taken.
            good = one + "\n" + meter_toml("pv", 2)
            path.write_text(path.read_text() + meter_toml("pv", 1))
            wrong = aigeco("config", "apply", path)
            assert wrong.code == 3
            assert wrong.out.splitlines() == [
                "error: bus[0].meter[1].unit: 1: is the same as bus[0].meter[0].unit",
                "  try: give each device on one line a unit id of its own",
                f"{path}: 1 error; nothing was changed",
            ]
            write_config(tmp_path, good)
            path.write_text(path.read_text().replace('uri = "file:keys/gateway.pem"', 'uri = "file:keys/new.pem"'))
            restart = aigeco("config", "apply", path, "--json")
            assert restart.code == 1
            shown = json.loads(restart.out)
            assert list(shown) == ["ok", "applied", "restart", "changes", "problems", "warnings"]
            assert (shown["ok"], shown["applied"], shown["restart"]) == (False, False, True)
            assert [each["place"] for each in shown["problems"]] == ["key.uri"]

            # A meter more: its technician is led from the file to the signature.
            write_config(tmp_path, good)
            early, advice = aigeco(*visit).problem
            assert "does not work with this configuration yet: meter pv added" in early
            assert advice == ["aigeco config apply; then again"]
            would = aigeco("config", "apply", path, "--dry-run")
            assert would.code == 0
            assert would.out.splitlines()[0].startswith(f"meter pv added: {MODEL}, unit 2 on ")
            assert would.out.splitlines()[-1] == f"{path}: would be taken as it is"
            assert max(map(len, would.out.splitlines()[:-1])) <= 80
            taken = aigeco("config", "apply", path)
            assert (taken.code, taken.out.splitlines()[-1]) == (0, f"{path}: in force, 1 change")
            done = aigeco(*visit)
            assert done.code == 0, done.err
            agent.end()
        assert agent.process.returncode == 0, agent.log
    (signed,) = [each for each in claims_of(settings) if each.kind == Kind.COMMISSION]
    assert (signed.sub, signed.sid.hex()) == ("pv", json.loads(done.out)["statements"][0]["sid"])


def test_without_a_gateway(aigeco: Aigeco, tmp_path: Path) -> None:
    make_folder(tmp_path)
    settings = write_config(tmp_path, bus_toml(1, "house"))
    done = aigeco("config", "apply", settings.path)
    assert done.code == 6
    words, advice = done.problem
    assert words == f"no gateway runs with {settings.spool}; nothing was changed"
    assert advice[0] == "systemctl start aigeco: it takes the configuration when it starts"
    assert not settings.spool.exists()

"""``aigeco-peer`` as a person meets it: exit codes, messages, JSON, a configuration with everything wrong at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hw_sim.authority import Authority
from ledger import config as configuration
from ledger.cli.exits import MEANING
from ledger.cli.main import COMMANDS, cli
from ledger.config import ConfigError
from ledger.embedded import LedgerFile
from ledger.rules.measurements import Gateway
from tests.broker import Broker, free_port
from tests.ledger.peers import COMMAND, PATIENCE_S, PeerSite, line_of, uplink_of

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[PeerSite]:
    """An organisation whose broker does not run."""
    directory = tmp_path / "broker"
    directory.mkdir()
    made = PeerSite(tmp_path / "Org1MSP", Broker(directory, ["alpha"], ["Org1MSP"]))
    yield made
    made.close()


def problems(site: PeerSite, text: str) -> dict[str, str]:
    site.config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        configuration.load(site.config)
    assert all(problem.advice for problem in caught.value.problems)
    return {problem.place: problem.words for problem in caught.value.problems}


def test_all_that_is_wrong_with_a_configuration_is_said_at_once(site: PeerSite) -> None:
    found = problems(
        site,
        'organisation = "Org 1"\nledgr = "x"\nledger = 7\n[receipts]\nkey = ""\n[gateways]\nroots = [1]\n'
        '[mqtt]\nport = 70000\ninsecure = "no"\ninstance = true\nhots = "x"\n'
        'ca = "ca.pem"\ncertificate = "c"\nkey = "k"\n',
    )
    assert found == {
        "organisation": "an MSP id has 1 to 40 letters, digits and hyphens",
        "ledgr": "is no setting",
        "ledger": "a text is needed here",
        "receipts.key": "a text is needed here",
        "receipts.certificate": "is missing",
        "gateways.roots": "a list of texts is needed here",
        "mqtt.host": "is missing",
        "mqtt.hots": "is no setting",
        "mqtt.port": "a whole number 1..65535 is needed here",
        "mqtt.insecure": "true or false is needed here",
        "mqtt.instance": "a whole number 1..999 is needed here",
    }


def test_a_section_that_is_no_table_and_a_file_that_is_no_toml(site: PeerSite) -> None:
    assert problems(site, 'organisation = "Org1MSP"\nmqtt = 1\n')["mqtt"] == "a table is needed here"
    assert "is no TOML" in problems(site, "organisation = \n")[""]
    site.config.unlink()
    with pytest.raises(ConfigError, match="No such file"):
        configuration.load(site.config)


def test_a_plain_connection_needs_no_certificates_and_must_be_asked_for(site: PeerSite) -> None:
    text = site.config.read_text()
    plain = text[: text.index("[mqtt]")] + '[mqtt]\nhost = "broker"\n'
    assert set(problems(site, plain)) == {"mqtt.ca", "mqtt.certificate", "mqtt.key"}
    site.config.write_text(plain + "insecure = true\n")
    endpoint = configuration.load(site.config).endpoint
    assert (endpoint.port, endpoint.client_id, endpoint.insecure) == (1883, "org-Org1MSP-1", True)


FABRIC = 'ledger = "ledger.db"', '[fabric]\nprofile = "network.toml"'


def test_the_ledger_may_be_a_networks(site: PeerSite) -> None:
    text = site.config.read_text()
    both = problems(site, text.replace("[receipts]", f"{FABRIC[1]}\nstat = 1\n[receipts]"))
    assert both == {
        "ledger": "is an embedded ledger's file, and [fabric] says that the ledger is a network's",
        "gateways.roots": "are the registry's on a Fabric network, the same for everybody",
        "fabric.stat": "is no setting",
    }
    text = text.replace(*FABRIC).replace('[gateways]\nroots = ["gateways.pem"]\n', "")
    site.config.write_text(text)
    config = configuration.load(site.config)
    assert config.fabric == configuration.FabricConfig(
        site.directory / "network.toml", "ingestion", site.directory / "ingestion.db"
    )
    assert (config.ledger, config.roots) == (None, ())
    for words in (("show",), ("backup", str(site.directory / "copy"))):
        said = site.run(*words, code=3).stderr
        assert "fabric: the ledger is a Fabric network's" in said
        assert "try: " in said
    assert "aigeco-peer network up" in site.run("query", "registry", "List", code=3).stderr


def test_keys_and_certificates_that_cannot_be_used_are_all_named(site: PeerSite) -> None:
    (site.directory / "receipts.key").chmod(0o644)
    (site.directory / "receipts.pem").write_bytes((site.directory / "tls.pem").read_bytes())
    (site.directory / "gateways.pem").write_text("nothing")
    said = site.run("run", code=3).stderr
    assert said.startswith("error: ")
    for place in ("receipts.key: ", "receipts.certificate: ", "gateways.roots: ", "chmod 600"):
        assert place in said
    assert "Traceback" not in said


def test_a_receipt_key_of_another_certificate(site: PeerSite) -> None:
    (site.directory / "receipts.key").unlink()
    other = Authority("Org1MSP").receipts()
    other.write(site.directory / "receipts.key", site.directory / "other.pem")
    assert "is not the key of the certificate" in site.run("run", code=3).stderr


def test_a_receipt_key_that_is_missing_is_never_made(site: PeerSite) -> None:
    (site.directory / "receipts.key").unlink()
    assert "receipts.key" in site.run("run", code=3).stderr
    assert not (site.directory / "receipts.key").exists()


def test_gateways_are_registered_by_name_or_certificate(site: PeerSite, tmp_path: Path) -> None:
    authority = Authority("Site")
    (site.directory / "gateways.pem").write_bytes(authority.pem)
    authority.gateway("gamma").write(tmp_path / "gamma.key", tmp_path / "gamma.pem")
    (tmp_path / "root.pem").write_bytes(authority.pem)
    site.run("gateways", "add", "alpha")
    site.run("gateways", "add", "beta", "--root", str(tmp_path / "root.pem"))
    assert site.run("gateways", "add", "--certificate", str(tmp_path / "gamma.pem")).stdout == (
        "gateway gamma is registered\n"
    )
    site.run("gateways", "revoke", "alpha")
    rows = json.loads(site.run("gateways", "list", "--json").stdout)["gateways"]
    assert [(row["gateway"], row["state"], bool(row["certificate"]), bool(row["root"])) for row in rows] == [
        ("alpha", "revoked", False, False),
        ("beta", "active", False, True),
        ("gamma", "active", True, False),
    ]
    assert "gamma" in site.run("gateways", "list").stdout
    assert "gamma" in site.run("--config", str(site.config), "gateways", "list", "--config", str(site.config)).stdout


def test_gateways_that_cannot_be_registered(site: PeerSite, tmp_path: Path) -> None:
    stranger = Authority("Stranger")
    stranger.gateway("gamma").write(tmp_path / "gamma.key", tmp_path / "gamma.pem")
    (tmp_path / "root.pem").write_bytes(stranger.pem)
    own = Authority("Site")
    (site.directory / "gateways.pem").write_bytes(own.pem)
    own.organisation_client().write(tmp_path / "org.key", tmp_path / "org.pem")
    own.gateway("delta").write(tmp_path / "delta.key", tmp_path / "delta.pem")
    own.gateway("old", days=(-9, -1)).write(tmp_path / "old.key", tmp_path / "old.pem")
    for arguments, words in (
        ([], "neither a gateway nor a certificate"),
        (["gw 1"], "is no name of a gateway"),
        (["beta", "--root", str(tmp_path / "root.pem")], "none of the configured roots"),
        (["--certificate", str(tmp_path / "gamma.pem")], "no pinned root issued it"),
        (["--certificate", str(tmp_path / "old.pem")], "was not valid"),
        (["--certificate", str(tmp_path / "org.pem")], "begins with gw-"),
        (["--certificate", str(tmp_path / "org.key")], "holds no certificate"),
        (["beta", "--certificate", str(tmp_path / "delta.pem")], "of gateway delta, not of beta"),
        (["--certificate", str(tmp_path / "nowhere.pem")], "does not exist"),
    ):
        said = site.run("gateways", "add", *arguments, code=2).stderr
        assert words in said
        assert "Traceback" not in said
    assert "not registered" in _revoke_nobody(site)


def _revoke_nobody(site: PeerSite) -> str:
    site.run("gateways", "add", "alpha")
    return site.run("gateways", "revoke", "omega", code=2).stderr


def test_a_ledger_that_is_none(site: PeerSite) -> None:
    assert "no ledger here" in site.run("show", code=6).stderr
    site.ledger.write_text("no database at all " * 100)
    for arguments in (("show",), ("run",), ("gateways", "add", "alpha")):
        said = site.run(*arguments, code=6).stderr
        assert "is no database" in said
        assert "try: another path" in said


def test_show_says_what_is_committed_and_checks_it(broker: Broker, tmp_path: Path) -> None:
    site = PeerSite(tmp_path / "Org1MSP", broker)
    site.run("gateways", "add", "alpha")
    peer = site.serve()
    uplink = uplink_of(broker, "alpha", {"Org1MSP": site.authority}, [])
    line = line_of(broker, "alpha").begin().grow(5)
    twin = line.clone()
    for batch in (line.batch(0, 2), line.batch(2, 4)):
        uplink.deliver(batch, PATIENCE_S)
    del twin
    uplink.close()
    assert [row["block"] for row in site.show("batches")] == [1, 2]
    assert site.show("forks") == []
    for what in ("streams", "batches", "forks"):
        assert "Org1MSP, block 2" in site.run("show", what).stdout
    peer.send_signal(signal.SIGINT)
    assert peer.wait(PATIENCE_S) == 130
    assert "stopped: 2 batches with 6 statements committed, 0 repeated, 0 refused" in site.log.read_text()
    file = LedgerFile(site.ledger, "Org1MSP")
    file._sql.execute("UPDATE blocks SET root = zeroblob(32) WHERE block = 1")
    file.close()
    assert "block 1 is not what was committed" in site.run("show", "--check", code=1).stderr


def test_a_request_that_cannot_be_read_is_kept_and_the_others_are_taken(broker: Broker, tmp_path: Path) -> None:
    with closing(PeerSite(tmp_path / "Org1MSP", broker)) as site:
        requests = site.directory / "ledger.db.requests"
        requests.mkdir()
        (requests / "a.json").write_text('{"gateway": "a/b", "root": null, "certificate": null, "revoked": false}')
        (requests / "b.json").write_text("no JSON")
        site.serve()
        site.wait_for("cannot be read", 2)
        assert site.run("gateways", "add", "alpha").stdout == "gateway alpha is registered\n"
        assert sorted(path.name for path in requests.iterdir()) == ["a.json.unreadable", "b.json.unreadable"]
        file = LedgerFile(site.ledger, None, read_only=True)
        assert file.gateways() == [Gateway("alpha")]
        file.close()


@pytest.mark.parametrize("wrong", ["refused", "ca", "expired", "stranger"])
def test_a_peer_that_cannot_connect_says_why_once_and_goes_on_trying(
    broker: Broker, tmp_path: Path, wrong: str
) -> None:
    site = PeerSite(tmp_path / "Org1MSP", broker)
    if wrong == "refused":
        broker.port = free_port()
        site.write(broker)
        words = "nothing listens on"
    elif wrong == "ca":
        other = tmp_path / "other.pem"
        other.write_bytes(Authority("Other").pem)
        text = site.config.read_text().replace(str(broker.directory / "ca.pem"), str(other))
        site.config.write_text(text)
        words = "was not issued by the CA in"
    else:
        authority = site.authority if wrong == "expired" else Authority("Org1MSP")
        (site.directory / "tls.key").unlink()
        issued = authority.organisation_client((-9, -1) if wrong == "expired" else (-1, 9))
        issued.write(site.directory / "tls.key", site.directory / "tls.pem")
        words = "it has expired" if wrong == "expired" else "does not know its issuer"
    peer = site.start()
    site.wait_for("not connected: ")
    assert words in site.log.read_text()
    assert "try: " in site.log.read_text()
    with pytest.raises(subprocess.TimeoutExpired):
        peer.wait(1.7)  # by now it has tried again
    assert site.log.read_text().count("not connected") == 1
    peer.terminate()
    assert peer.wait(PATIENCE_S) == 0


def test_the_example_in_the_documentation_is_a_configuration(site: PeerSite) -> None:
    text = OPERATIONS.read_text()
    block = text[text.index("    organisation = ") :]
    lines = itertools.takewhile(lambda line: not line or line.startswith("    "), block.splitlines())
    site.config.write_text(textwrap.dedent("\n".join(lines)))
    config = configuration.load(site.config)
    assert config.endpoint.client_id == "org-Org1MSP-1"
    assert config.ledger == site.directory / "ledger.db"
    for code, words in MEANING.items():
        assert f"| {int(code)} | {words}" in text


def test_help_names_every_command_and_exit_code() -> None:
    said = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    for word in (*COMMANDS, *(str(int(code)) for code in MEANING)):
        assert word in said
    assert set(cli.list_commands(None)) == set(COMMANDS)  # type: ignore[arg-type]
    wrong = subprocess.run([*COMMAND, "fly"], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")


def test_a_running_peer_does_not_carry_what_only_tables_need() -> None:
    code = (
        "import sys; import ledger.cli.run, ledger.config, ledger.embedded, ledger.lock, ledger.peer, ledger.requests;"
        "print([name for name in ('rich', 'yaml', 'pymodbus', 'hypothesis', 'drivers.map') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout == "[]\n"

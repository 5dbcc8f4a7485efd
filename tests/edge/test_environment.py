"""What the configuration counts on: keys, certificates, ports, roots, and what the lines can carry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.table import Problem
from edge import config, environment
from edge.config import Config
from edge.environment import check_environment, check_names, load_trust
from edge.identity import load_identity
from edge.load import check_load, plan_load
from hw_sim.authority import Authority
from tests.edge.places import bus_toml, make_folder, write_config


def told(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(found.place, found.words) for found in problems]


def gateway_certificate(folder: Path, name: str = "home-1", days: tuple[int, int] = (-1, 365)) -> Authority:
    """A certificate for the key that is there, from another authority, which is returned."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

    key = load_pem_private_key((folder / "keys/gateway.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    other = Authority("Other")
    issued = other.gateway(name, key, days)
    (folder / "keys/gateway.crt").write_bytes(issued.certificate.public_bytes(Encoding.PEM))
    return other


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    make_folder(tmp_path)
    return write_config(tmp_path, bus_toml(502, "house"))


class TestTheKey:
    def test_all_is_well(self, settings: Config) -> None:
        identity, wrong, warnings = load_identity(settings)
        assert identity is not None
        assert len(identity.certificates) == 1
        assert (wrong, warnings) == ([], [])

    def test_a_missing_key_is_never_made(self, settings: Config, tmp_path: Path) -> None:
        (tmp_path / "keys/gateway.pem").unlink()
        identity, wrong, _ = load_identity(settings)
        assert identity is None
        assert told(wrong)[0][0] == "key.uri"
        assert "aigeco keys create" in wrong[0].advice
        assert not (tmp_path / "keys/gateway.pem").exists()

    def test_a_key_that_others_may_read(self, settings: Config, tmp_path: Path) -> None:
        (tmp_path / "keys/gateway.pem").chmod(0o644)
        identity, wrong, _ = load_identity(settings)
        assert identity is None
        assert "lets others at the key" in wrong[0].words
        assert "chmod 600" in wrong[0].advice

    def test_another_keys_certificate(self, settings: Config, tmp_path: Path) -> None:
        (tmp_path / "keys/gateway.pem").unlink()
        (tmp_path / "keys/gateway.crt").unlink()
        site = Authority("Site")
        site.gateway("home-1").write(tmp_path / "keys/gateway.pem", tmp_path / "keys/other.crt")
        site.gateway("home-1").write(tmp_path / "keys/other.pem", tmp_path / "keys/gateway.crt")
        identity, wrong, _ = load_identity(settings)
        assert identity is None
        assert "is the certificate of another key" in wrong[0].words

    def test_another_gateways_certificate(self, settings: Config, tmp_path: Path) -> None:
        gateway_certificate(tmp_path, "home-2")
        identity, wrong, _ = load_identity(settings)
        assert identity is None
        assert told(wrong) == [("key.certificate", "is issued to gw-home-2, not to gw-home-1")]
        assert wrong[0].advice == "set gateway.id to home-2"

    def test_no_certificate(self, settings: Config, tmp_path: Path) -> None:
        (tmp_path / "keys/gateway.crt").write_text("not a certificate")
        assert "holds no certificate" in load_identity(settings)[1][0].words

    @pytest.mark.parametrize(("days", "words"), [((-9, -2), "has expired"), ((2, 9), "is valid only from")])
    def test_an_expired_certificate_is_a_warning(
        self, settings: Config, tmp_path: Path, days: tuple[int, int], words: str
    ) -> None:
        """The clock may be wrong; measuring goes on."""
        gateway_certificate(tmp_path, days=days)
        identity, wrong, warnings = load_identity(settings)
        assert identity is not None
        assert wrong == []
        assert words in warnings[0].words

    def test_a_wrong_root(self, settings: Config, tmp_path: Path) -> None:
        gateway_certificate(tmp_path)
        identity, _, warnings = load_identity(settings)
        assert identity is not None
        assert warnings[0].place == "key.ca"
        assert "no pinned root issued it" in warnings[0].words


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Path]:
    """Two adapters under their numbers, one with a serial number of its own, and what udev calls them."""
    folder = tmp_path / "dev"
    ends = [os.openpty() for _ in range(2)]
    one, two = (os.ttyname(end) for _, end in ends)
    links = {
        "ttyUSB0": one,
        "ttyUSB1": two,
        "by-id/usb-FTDI-port0": one,
        "by-path/pci-usb-0:0": one,
        "by-path/pci-usb-0:1": two,
        "by-path/gone": "/dev/ttyNONE",
    }
    for name, port in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(port)
    yield folder
    for end in sum(ends, ()):
        os.close(end)


class TestTheEnvironment:
    def test_all_is_well(self, settings: Config) -> None:
        assert check_environment(settings) == []
        trust, wrong = load_trust(settings)
        assert set(trust.organisations) == {"Org1MSP", "Org2MSP"}
        assert len(trust.gateways) == 1
        assert wrong == []

    def test_a_port_that_does_not_exist(self, tmp_path: Path) -> None:
        make_folder(tmp_path)
        bus = '[[bus]]\nserial = "/dev/ttyNONE"\n[[bus.meter]]\nname = "m"\nmodel = "eastron_sdm630"\nunit = 1'
        found = check_environment(write_config(tmp_path, bus))
        assert told(found) == [("bus[0].serial", "No such file or directory")]
        assert found[0].advice

    def test_a_port_that_is_a_file(self, tmp_path: Path) -> None:
        make_folder(tmp_path)
        bus = '[[bus]]\nserial = "/etc/hostname"\n[[bus.meter]]\nname = "m"\nmodel = "eastron_sdm630"\nunit = 1'
        assert told(check_environment(write_config(tmp_path, bus))) == [("bus[0].serial", "is no serial port")]

    def test_names_of_ports_that_may_move(self, tmp_path: Path, ports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_folder(tmp_path)
        names = ["ttyUSB0", "ttyUSB1", "ttyACM0", "by-id/usb-FTDI-port0"]
        meter = 'model = "eastron_sdm630"\nunit = 1\n'
        lines = [
            f'[[bus]]\nserial = "{ports / name}"\n[[bus.meter]]\nname = "m{name[-1]}{name[3]}"\n{meter}'
            for name in names
        ]
        settings = write_config(tmp_path, "".join(lines))
        monkeypatch.setattr(environment, "STABLE", ports)
        words = "its number may be another adapter's after the next start"
        found = check_names(settings)
        assert told(found) == [(f"bus[{number}].serial", words) for number in range(3)]
        assert [each.advice for each in found] == [
            f'serial = "{ports}/by-id/usb-FTDI-port0"',
            f'serial = "{ports}/by-path/pci-usb-0:1"',  # its adapter has no serial number
            f"use a name in {ports}/by-path",  # not plugged in
        ]
        assert check_environment(settings)[1:] == [], "it works, so it is no alarm of the gateway"

    def test_a_missing_root_of_an_organisation(self, settings: Config, tmp_path: Path) -> None:
        (tmp_path / "trust/Org2MSP.pem").unlink()
        trust, wrong = load_trust(settings)
        assert set(trust.organisations) == {"Org1MSP"}
        assert wrong[0].place == "ledger.organisations.Org2MSP"

    def test_the_brokers_files(self, tmp_path: Path) -> None:
        make_folder(tmp_path)
        mqtt = '[mqtt]\nhost = "x"\nca = "trust/broker.pem"\nkey = "keys/tls.pem"\ncertificate = "keys/tls.crt"'
        settings = write_config(tmp_path, bus_toml(502, "house"), mqtt)
        assert [place for place, _ in told(check_environment(settings))] == ["mqtt.ca", "mqtt.certificate"]
        site = Authority("Site")
        (tmp_path / "trust/broker.pem").write_bytes(site.pem)
        site.gateway("home-2", days=(-9, -2)).write(tmp_path / "keys/x.pem", tmp_path / "keys/tls.crt")
        site.gateway("home-1").write(tmp_path / "keys/tls.pem", tmp_path / "keys/x.crt")
        found = told(check_environment(settings))
        assert [place for place, _ in found] == ["mqtt.certificate", "mqtt.certificate", "mqtt.key"]
        assert "has expired" in found[0][1]
        assert "not to gw-home-1" in found[1][1]
        assert "is not the key of" in found[2][1]


class TestTheLoad:
    def serial(self, tmp_path: Path, baud: int, *periods: int) -> Config:
        meters = "".join(
            f'[[bus.meter]]\nname = "m{unit}"\nmodel = "eastron_sdm630"\nunit = {unit}\nperiod_s = {period_s}\n'
            for unit, period_s in enumerate(periods, 1)
        )
        text = '[gateway]\nid = "g"\n[key]\nuri = "file:k"\ncertificate = "c"\n'
        text += f'[[bus]]\nserial = "/dev/s"\nbaud = {baud}\n'
        return config.parse(text + meters, tmp_path / "x.toml")

    def test_a_line_that_cannot_carry_its_plan(self, tmp_path: Path) -> None:
        settings = self.serial(tmp_path, 9600, 1, 1)
        (load,) = plan_load(settings)
        assert load.share > 1
        (problem,) = check_load(settings)
        assert problem.place == "bus[0]"
        assert problem.words.startswith("needs ")
        assert problem.words.endswith(" s of every 1.0 s on /dev/s at 9600 baud")
        assert "raise " in problem.advice

    def test_the_advice_holds(self, tmp_path: Path) -> None:
        (problem,) = check_load(self.serial(tmp_path, 9600, 1, 1, 60))
        match = re.match(r"raise the period of m1 to (\d+) s", problem.advice)
        assert match, problem.advice
        assert check_load(self.serial(tmp_path, 9600, int(match[1]), 1, 60)) == []

    def test_a_line_at_leisure(self, tmp_path: Path) -> None:
        settings = self.serial(tmp_path, 9600, 60, 60)
        assert check_load(settings) == []
        assert plan_load(settings)[0].share < 0.1

    def test_a_key_that_cannot_sign_so_often(self, tmp_path: Path) -> None:
        settings = self.serial(tmp_path, 115200, 10, 10)
        (problem,) = check_load(settings, rate_per_s=0.1)
        assert problem.place == "key.uri"
        assert problem.advice == "measure.period_s = 20"
        assert check_load(settings, rate_per_s=4.0) == []

"""What goes wrong around a gateway, tried on real ones: one clear message each, and the rest goes on.

Rules
- A message has its place, the value, and what to try; it is in the status while it holds and once in the log.
- Whatever is wrong outside, meters are read, and what was read is signed and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.reading import Status
from edge.spool import Spool
from hw_sim.authority import Authority
from hw_sim.stage import ORGANISATIONS, free_port
from signer.codes import Kind
from tests.system.audit import check_holds
from tests.system.home import Home
from tests.system.town import Town


@dataclass(frozen=True, slots=True)
class Outside:
    """An accident that keeps a gateway's statements from the ledgers.

    Attributes:
        prepare: makes it happen.
        alarms: the words of each alarm that a person sees; ``{port}`` is the broker's, ``{folder}`` the gateway's.
        whose_move: as the status says it.
    """

    prepare: Callable[[Town, Home], None]
    alarms: tuple[tuple[str, ...], ...]
    whose_move: str


def _nothing(town: Town, home: Home) -> None:
    """The street has been built so."""


def _wrong_ca(town: Town, home: Home) -> None:
    (home.folder / "broker-ca.pem").write_bytes(Authority("Somebody").pem)


def _closed(town: Town, home: Home) -> None:
    home.edit(f"port = {town.stage.port}", f"port = {free_port()}")


OUTSIDE = {
    "wrong-ca": Outside(
        _wrong_ca,
        (
            (
                "broker: the certificate of 127.0.0.1:{port} was not issued by the CA in {folder}/broker-ca.pem",
                "try: set mqtt.ca to the CA that issued the broker's certificate",
            ),
        ),
        "whoever runs the broker or the network to it",
    ),
    "old-tls": Outside(
        _nothing,
        (
            (
                "configuration, mqtt.certificate: {folder}/tls.pem: has expired on ",
                "try: have a new certificate issued",
            ),
            (
                "broker: 127.0.0.1:{port} refuses our certificate {folder}/tls.pem: it has expired",
                "try: have a new certificate issued; check the clocks of both machines",
            ),
        ),
        "whoever runs the broker or the network to it",
    ),
    "old-signer": Outside(
        _nothing,
        (
            (
                "configuration, key.certificate: {folder}/signer.pem: has expired on ",
                "try: have a new certificate issued",
            ),
            *(
                (
                    f"ledger {organisation}: refuses the batch: the certificate in the genesis: certificate of",
                    "CN=gw-old-signer,O=Operator: was",
                    "try: have each organisation register this gateway (aigeco-peer gateways add), and check that",
                )
                for organisation in ORGANISATIONS[:2]
            ),
        ),
        "the organisations",
    ),
    "denied": Outside(
        _nothing,
        (
            (
                "broker: 127.0.0.1:{port} does not let gw-denied-1 publish to aigeco/1/denied/hello",
                "try: write the broker's access list anew with this gateway in it",
            ),
        ),
        "whoever runs the broker or the network to it",
    ),
    "closed": Outside(
        _closed,
        (("broker: nothing listens on 127.0.0.1:", "try: check mqtt.host and mqtt.port; start the broker"),),
        "whoever runs the broker or the network to it",
    ),
}
ASIDE = {"garbage": "file is not a database", "foreign": "is the spool of gateway somebody, not of foreign"}


@pytest.fixture(scope="module")
def homes(street: Town) -> Iterator[dict[str, Home]]:
    """Every home of this file, its accident prepared, all running."""
    names = [*OUTSIDE, *ASIDE, "no-port", "neighbour"]
    for name, accident in OUTSIDE.items():
        accident.prepare(street, street.homes[name])
    street.homes["garbage"].spool.write_bytes(b"no database at all\n" * 1000)
    Spool.open(street.homes["foreign"].spool, "somebody", 1_790_000_000_000).close()
    home = street.homes["no-port"]
    text = home.config.read_text()
    home.config.write_text(
        f'{text}[[bus]]\nserial = "{home.folder}/nowhere"\n'
        '[[bus.meter]]\nname = "gone"\nmodel = "eastron_sdm630"\nunit = 1\n'
    )
    for name in names:
        street.homes[name].start()
    yield {name: street.homes[name] for name in names}
    for name in names:
        if (process := street.homes[name].actor.process) is not None:
            street.homes[name].actor.expected_to_run = False
            process.kill()


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_wrong_outside_is_said_and_measuring_goes_on(homes: dict[str, Home], street: Town, name: str) -> None:
    home, accident = homes[name], OUTSIDE[name]
    home.has_read(4)
    for alarm in accident.alarms:
        words = [part.format(port=street.stage.port, folder=home.folder) for part in alarm]
        said = home.alarm(*words)
        shown = {each["words"]: each["whose_move"] for each in home.shown()["alarms"]}
        assert said in shown
        place = said.partition(":")[0]
        lines = [line for line in home.log().splitlines() if line.startswith(f"WARNING {place}:")]
        assert len(lines) == 1, home.log()
    assert shown[said] == accident.whose_move
    counts = home.counts()
    assert (counts.committed, counts.pending) == (0, counts.stored)
    for organisation in ORGANISATIONS:
        assert not street.streams(organisation, name)
    assert home.actor.process is not None
    assert home.actor.process.poll() is None


@pytest.mark.parametrize("name", ASIDE)
def test_a_spool_that_cannot_be_used_is_set_aside(homes: dict[str, Home], street: Town, name: str) -> None:
    home = homes[name]
    home.has_read(1)
    said = home.alarm(ASIDE[name], "it was set aside as ", "and a new stream begins")
    aside = Path(said.split("it was set aside as ")[1].split(",")[0])
    assert aside.parent == home.folder
    if name == "garbage":
        assert aside.read_bytes() == b"no database at all\n" * 1000
    else:
        with home.reading(aside) as reader:
            assert reader.gateway == "somebody"
    assert any(str(aside) in each["words"] for each in home.shown()["alarms"])
    home.settles()
    check_holds(street.evidence(home, name))


def test_a_port_that_does_not_exist_leaves_the_other_bus_alone(homes: dict[str, Home], street: Town) -> None:
    home = homes["no-port"]
    place = f"{home.folder}/nowhere"
    home.alarm("configuration, bus[1].serial: ", place, "No such file or directory", "try: plug the adapter in")
    home.has_read(3)
    home.has_read(1, good=False)
    (claims,) = home.claims().values()
    readings = {
        sub: [one for one in claims if one.kind == Kind.READING and one.sub == sub] for sub in ("no-port-meter", "gone")
    }
    assert {one.status for one in readings["gone"]} == {Status.DISCONNECTED}
    assert all(not one.values and not one.blocks for one in readings["gone"])
    assert {one.status for one in readings["no-port-meter"]} == {None}
    (shown,) = [each["words"] for each in home.shown()["alarms"] if each["words"].startswith("meter gone: ")]
    assert place in shown
    home.settles()
    report = street.evidence(home, "no-port")
    check_holds(report)
    assert report["slots"]["gone"]["failed"] == report["slots"]["gone"]["expected"] > 0


def test_the_neighbour_notices_nothing(homes: dict[str, Home], street: Town) -> None:
    home = homes["neighbour"]
    home.has_read(3)
    home.settles()
    assert home.alarms() == []
    assert "WARNING" not in home.log()

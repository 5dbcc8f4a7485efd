"""The connection profile: written and read again it is the same; what is wrong with one is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.config import ConfigError
from ledger.fabric import profile as profiles
from ledger.fabric.network import layout
from ledger.fabric.network.layout import Layout
from ledger.fabric.profile import Identity, Orderer, Organisation, Peer, Profile

FOLDER = Path("/somewhere")
TEXT = st.text(min_size=1, max_size=20)
# A path that is stripped or has dots in it is another path to the file system, too.
PATHS = st.from_regex(r"[A-Za-z0-9 '\"\\äß]{1,10}(/[A-Za-z0-9]{1,5})?", fullmatch=True).map(lambda name: FOLDER / name)
ADDRESSES = st.builds("{}:{}".format, st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True), st.integers(0, 65535))
OPTIONAL_PATHS = st.none() | PATHS


@st.composite
def made_profiles(draw: st.DrawFn) -> Profile:
    names = draw(st.lists(TEXT, unique=True, min_size=1, max_size=3))
    node_names = iter(draw(st.lists(TEXT, unique=True, min_size=6, max_size=6)))
    owner = st.sampled_from(names)
    organisations = tuple(
        Organisation(
            name,
            draw(PATHS),
            draw(OPTIONAL_PATHS),
            tuple(draw(st.lists(TEXT, max_size=2))),
            draw(st.dictionaries(TEXT, ADDRESSES, max_size=2)),
            draw(OPTIONAL_PATHS),
        )
        for name in names
    )
    return Profile(
        FOLDER / "network.toml",
        draw(TEXT),
        draw(st.sampled_from(["BFT", "etcdraft"])),
        organisations,
        tuple(Peer(next(node_names), draw(owner), draw(ADDRESSES), draw(st.none() | TEXT)) for _ in range(3)),
        tuple(Orderer(next(node_names), draw(owner), draw(ADDRESSES), draw(st.none() | ADDRESSES)) for _ in range(3)),
        tuple(
            Identity(name, name, draw(PATHS), draw(TEXT), draw(OPTIONAL_PATHS), draw(OPTIONAL_PATHS)) for name in names
        ),
    )


@settings(max_examples=25)
@given(profile=made_profiles())
def test_written_and_read_again_it_is_the_same(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert profiles.parse(profiles.dump(profile), profile.path) == profile


def small() -> Profile:
    ports = iter(range(20000, 20000 + layout.count_ports(small=True)))
    profile = layout.profile_of(Layout(FOLDER), True, "aigeco", ports)
    assert next(ports, None) is None, "a port too many"
    return profile


def problems(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        profiles.parse(text, FOLDER / "network.toml")
    assert all(problem.advice for problem in caught.value.problems)
    return {problem.place: problem.words for problem in caught.value.problems}


def test_all_that_is_wrong_is_said_at_once() -> None:
    text = """
        version = 7
        chanel = "x"
        consensus = "kafka"
        peers = 3
        [[organisations]]
        id = "A"
        tls_ca = ""
        roles = "metering"
        contracts = { registry = "nowhere" }
        [[orderers]]
        name = "o"
        organisation = "B"
        address = "host"
        port = 7
        [[identities]]
        name = "admin"
        organisation = "A"
        certificate = 1
        """
    assert problems(text) == {
        "version": "is not a version that is understood here",
        "chanel": "is no setting",
        "channel": "is missing",
        "consensus": "BFT or etcdraft is needed here",
        "peers": "a list of tables is needed here",
        "organisations[1].tls_ca": "a text is needed here",
        "organisations[1].roles": "a list of texts is needed here",
        "organisations[1].contracts.registry": "is no address",
        "orderers[1].address": "is no address",
        "orderers[1].port": "is no setting",
        "orderers.organisation": "is no organisation of this file",
        "identities[1].certificate": "a text is needed here",
        "identities[1].key": "is missing",
    }


def test_names_are_unique() -> None:
    text = profiles.dump(small())
    assert problems(text.replace("peer-auditor", "peer-community")) == {"peers.name": "is there twice"}
    assert "is no TOML" in problems("version = ")[""]


def test_what_is_asked_for_and_not_there_says_what_is() -> None:
    profile = small()
    assert [each.id for each in profile.with_role("metering")] == ["CommunityMSP", "DistributorMSP", "AuditorMSP"]
    assert profile.peers_of("AuditorMSP")[0].name == "peer-auditor"
    assert profile.identity("CommunityMSP", "registrar").key.startswith("file:organisations/community/")
    with pytest.raises(ConfigError, match=r"not in the profile(?s:.*)AggregatorMSP"):
        profile.organisation("Other")
    with pytest.raises(ConfigError, match="member of CommunityMSP"):
        profile.identity("AuditorMSP", "member")


def test_a_folder_without_a_profile_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="network up"):
        profiles.load(tmp_path)


def test_only_who_meters_may_run_the_contract_with_the_measurements() -> None:
    for organisation in small().organisations:
        assert ("measurements" in organisation.contracts) == ("metering" in organisation.roles)

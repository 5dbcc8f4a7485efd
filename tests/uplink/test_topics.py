"""Topics and the access list made from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uplink import broker, topics

NAMES = st.from_regex(r"[A-Za-z0-9-]{1,40}", fullmatch=True)


@given(NAMES, NAMES)
def test_what_is_made_is_taken_apart_again(gateway: str, organisation: str) -> None:
    assert topics.parse(topics.batch(gateway)) == topics.Topic(gateway, "batch")
    assert topics.parse(topics.hello(gateway)) == topics.Topic(gateway, "hello")
    for kind in topics.DOWN:
        made = topics.answer(gateway, kind, organisation)
        assert topics.parse(made) == topics.Topic(gateway, kind, organisation)


@given(st.text(alphabet="aigeco/1+#$-x\n ", max_size=40))
def test_nothing_else_is_one_of_ours(topic: str) -> None:
    found = topics.parse(topic)
    if found is not None:
        made = topics.answer(*found_levels(found)) if found.organisation else f"aigeco/1/{found.gateway}/{found.kind}"
        assert made == topic


def found_levels(found: topics.Topic) -> tuple[str, str, str]:
    return found.gateway, found.kind, found.organisation


@pytest.mark.parametrize("name", ["", "a" * 41, "+", "#", "a/b", "a b", "a\n", "ä", "a+", "$share"])
def test_names_that_could_widen_a_topic_are_refused(name: str) -> None:
    assert not topics.valid_name(name)
    for make in (topics.batch, topics.hello, topics.gateway_cn, topics.organisation_cn):
        with pytest.raises(ValueError, match="no name of a"):
            make(name)
    with pytest.raises(ValueError, match="no name of a"):
        broker.access_list([name], [])


def test_the_access_list_names_everybody_once() -> None:
    assert broker.access_list(["g", "g"], ["O"]) == (
        "# Who may publish and read what. Everything that is not listed is refused.\n\n"
        "user org-O\n"
        "topic read aigeco/1/+/batch\n"
        "topic read aigeco/1/+/hello\n"
        "topic write aigeco/1/+/receipt/O\n"
        "topic write aigeco/1/+/refusal/O\n"
        "topic write aigeco/1/+/head/O\n\n"
        "user gw-g\n"
        "topic write aigeco/1/g/batch\n"
        "topic write aigeco/1/g/hello\n"
        "topic read aigeco/1/g/receipt/+\n"
        "topic read aigeco/1/g/refusal/+\n"
        "topic read aigeco/1/g/head/+\n"
    )


def test_the_configuration_lets_nobody_in_without_a_certificate(tmp_path: Path) -> None:
    files = broker.BrokerFiles(Path("ca"), Path("crt"), Path("key"), Path("crl"))
    lines = broker.configuration("0.0.0.0", 8883, tmp_path, files).splitlines()
    assert {"allow_anonymous false", "require_certificate true", "use_identity_as_username true"} < set(lines)
    assert {"tls_version tlsv1.3", "retain_available false", "crlfile crl"} < set(lines)
    assert "max_queued_messages 0" not in lines  # with it, mosquitto 2.0.11 puts out a client for each denied publish

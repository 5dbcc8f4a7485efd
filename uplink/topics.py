"""Names on the bus: topics, the certificates' common names, media types.

Rules
- A topic carries exactly one gateway and, on the way back, exactly one organisation; both match ``[A-Za-z0-9-]{1,40}``,
  so no name can hold a wildcard, a level separator or a control character.
- A topic that is not one of ours is None, never a guess.
- Nothing else in the project spells a topic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VERSION = "aigeco/1"

BATCH_TYPE = "application/vnd.aigeco.b1"
HELLO_TYPE = "application/vnd.aigeco.hello1"
REFUSAL_TYPE = "application/vnd.aigeco.refusal1"
RECEIPT_TYPE = "application/vnd.aigeco.r1"
HEAD_TYPE = "application/vnd.aigeco.h1"

# One MQTT level, safe in an ACL file, a file name and a shell (mosquitto had a CVE for user names with + and #).
_NAME = re.compile(r"[A-Za-z0-9-]{1,40}")
UP = ("batch", "hello")
DOWN = ("receipt", "refusal", "head")
MEDIA_TYPES = {
    "batch": BATCH_TYPE,
    "hello": HELLO_TYPE,
    "receipt": RECEIPT_TYPE,
    "refusal": REFUSAL_TYPE,
    "head": HEAD_TYPE,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic taken apart.

    Attributes:
        gateway: gateway id.
        kind: ``batch``, ``hello``, ``receipt``, ``refusal`` or ``head``.
        organisation: MSP id for the last three, else empty.
    """

    gateway: str
    kind: str
    organisation: str = ""


def valid_name(name: str) -> bool:
    """Whether a gateway or organisation may have this name."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str, what: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is no name for ``what`` (``gateway``, ``organisation``).
    """
    if not valid_name(name):
        raise ValueError(f"{name!r} is no name of a {what}: 1 to 40 letters, digits and hyphens")
    return name


def gateway_cn(gateway: str) -> str:
    """Common name of a gateway's certificate."""
    return f"gw-{check_name(gateway, 'gateway')}"


def organisation_cn(organisation: str) -> str:
    """Common name of the certificates of an organisation's ingestion peer."""
    return f"org-{check_name(organisation, 'organisation')}"


def batch(gateway: str) -> str:
    """Where a gateway publishes its batches."""
    return f"{VERSION}/{check_name(gateway, 'gateway')}/batch"


def hello(gateway: str) -> str:
    """Where a gateway asks for the heads."""
    return f"{VERSION}/{check_name(gateway, 'gateway')}/hello"


def answer(gateway: str, kind: str, organisation: str) -> str:
    """Where an organisation answers a gateway; ``kind`` is ``receipt``, ``refusal`` or ``head``."""
    if kind not in DOWN:
        raise ValueError(f"{kind!r} is no kind of answer")
    return f"{VERSION}/{check_name(gateway, 'gateway')}/{kind}/{check_name(organisation, 'organisation')}"


def gateway_subscriptions(gateway: str) -> tuple[str, ...]:
    """What a gateway listens to: every organisation's answers to itself."""
    return tuple(f"{VERSION}/{check_name(gateway, 'gateway')}/{kind}/+" for kind in DOWN)


def peer_subscriptions(organisation: str) -> tuple[str, ...]:
    """What an organisation's ingestion peer listens to: every gateway, shared among the organisation's processes."""
    return tuple(f"$share/{check_name(organisation, 'organisation')}/{VERSION}/+/{kind}" for kind in UP)


def parse(topic: str) -> Topic | None:
    """The topic taken apart, or None when it is none of ours."""
    levels = topic.split("/")
    if levels[:2] != VERSION.split("/") or len(levels) not in (4, 5) or not valid_name(levels[2]):
        return None
    if len(levels) == 4:
        return Topic(levels[2], levels[3]) if levels[3] in UP else None
    if levels[3] in DOWN and valid_name(levels[4]):
        return Topic(levels[2], levels[3], levels[4])
    return None

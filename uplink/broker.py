"""The broker's configuration: mosquitto.conf and its access list, made from the gateways and the organisations.

Starts nothing and makes no certificates.

Rules
- Everybody is who the certificate's common name says (``gw-{gateway}``, ``org-{organisation}``); no passwords.
- A gateway writes its own batch and hello and reads what is answered to it; an organisation reads all batches and
  hellos and writes its own answers; nobody else may do anything. mosquitto enforces reading when it delivers.
- One section for each gateway: a topic holds the gateway's id, the certificate ``gw-`` and the id, and mosquitto's
  patterns (``%u``) can put a whole user name into a topic but not cut one. After a change, send mosquitto a SIGHUP.
- What the broker keeps in memory has a limit. Nothing depends on what it keeps: gateways send again until they have
  receipts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from signer.batch import MAX_BYTES
from uplink import topics
from uplink.mqtt import OVERHEAD_BYTES, PEER_WINDOW

MAX_PACKET_BYTES = MAX_BYTES + OVERHEAD_BYTES
"""Largest packet that the broker takes and that a peer lets it send: one full batch."""

# A dead organisation's queue: 4,000 small batches, and never more than a small machine's memory can hold.
_QUEUED_MESSAGES = 4000
_QUEUED_BYTES = 64 << 20
# Sessions and queues reach the disk this often; what a crash takes from them is sent again.
_AUTOSAVE_S = 60


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """What an operator provides.

    Attributes:
        ca: PEM file with the CAs whose client certificates are let in.
        certificate, key: the broker's own, PEM.
        revoked: PEM file with a revocation list, or None.
        user: system user that mosquitto becomes when started as root; None leaves its own default.
    """

    ca: Path
    certificate: Path
    key: Path
    revoked: Path | None = None
    user: str | None = None


def access_list(gateways: Iterable[str], organisations: Iterable[str]) -> str:
    """The text of mosquitto's ``acl_file``."""
    sections = ["# Who may publish and read what. Everything that is not listed is refused."]
    for organisation in sorted(set(organisations)):
        lines = [f"user {topics.organisation_cn(organisation)}"]
        lines += [f"topic read {topics.VERSION}/+/{kind}" for kind in topics.UP]
        lines += [f"topic write {topics.VERSION}/+/{kind}/{organisation}" for kind in topics.DOWN]
        sections.append("\n".join(lines))
    for gateway in sorted(set(gateways)):
        lines = [f"user {topics.gateway_cn(gateway)}"]
        lines += [f"topic write {topic}" for topic in (topics.batch(gateway), topics.hello(gateway))]
        lines += [f"topic read {name}" for name in topics.gateway_subscriptions(gateway)]
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def configuration(host: str, port: int, directory: Path, files: BrokerFiles) -> str:
    """The text of ``mosquitto.conf``; ``directory`` holds the access list and what mosquitto persists."""
    options: list[tuple[str, object]] = [
        ("per_listener_settings", "false"),
        ("allow_anonymous", "false"),
        ("acl_file", directory / "acl"),
        ("allow_zero_length_clientid", "false"),
        ("retain_available", "false"),
        ("max_packet_size", MAX_PACKET_BYTES),
        ("max_inflight_messages", PEER_WINDOW),
        ("max_queued_messages", _QUEUED_MESSAGES),
        ("max_queued_bytes", _QUEUED_BYTES),
        ("set_tcp_nodelay", "true"),
        ("sys_interval", 0),
        ("persistence", "true"),
        ("persistence_location", f"{directory}/"),
        ("autosave_interval", _AUTOSAVE_S),
        ("log_dest", "stderr"),
        ("log_type", "error"),
        ("log_type", "warning"),
        ("log_type", "notice"),
        ("listener", f"{port} {host}"),
        ("cafile", files.ca),
        ("certfile", files.certificate),
        ("keyfile", files.key),
        ("tls_version", "tlsv1.3"),
        ("require_certificate", "true"),
        ("use_identity_as_username", "true"),
    ]
    if files.revoked:
        options.append(("crlfile", files.revoked))
    if files.user:
        options.insert(0, ("user", files.user))
    return "".join(f"{name} {value}\n" for name, value in options)


def write(
    directory: Path,
    host: str,
    port: int,
    gateways: Iterable[str],
    organisations: Iterable[str],
    files: BrokerFiles,
) -> Path:
    """Write both files into ``directory`` and return the path of ``mosquitto.conf``.

    Raises:
        ValueError: a name that cannot be one of a gateway or organisation.
    """
    (directory / "acl").write_text(access_list(gateways, organisations))
    path = directory / "mosquitto.conf"
    path.write_text(configuration(host, port, directory, files))
    return path

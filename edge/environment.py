"""What the configuration counts on, looked at where it is: ports, files, certificates.

Changes nothing and opens no line and no connection.

Rules
- What is found here is a warning: what is missing may come (an adapter is plugged in); the rest is served meanwhile.
- What makes signing impossible is not a warning; :mod:`edge.identity` says it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from drivers.line import SerialEndpoint
from drivers.table import Problem, closest
from edge.config import Config, Mqtt
from edge.identity import advice_of, common_name, validity
from signer.keys import KeyProblem, open_key
from signer.trust import Trust, Untrusted, load_pem


def check_environment(config: Config) -> list[Problem]:
    """All warnings about ports, broker files and organisations' roots."""
    found = []
    for number, bus in enumerate(config.buses):
        if isinstance(bus.endpoint, SerialEndpoint):
            found += _port(f"bus[{number}].serial", bus.endpoint.path)
    if config.mqtt and not config.mqtt.insecure:
        found += _mqtt(config, config.mqtt)
    return found + load_trust(config)[1]


def load_trust(config: Config) -> tuple[Trust, list[Problem]]:
    """The roots that are there, and what is wrong with the others."""
    found: list[Problem] = []
    organisations = {}
    for name, path in config.organisations.items():
        place = f"ledger.organisations.{name}"
        try:
            organisations[name] = load_pem(path)
        except Untrusted as error:
            found.append(Problem(place, "", str(error), f"get the root certificate of {name} from that organisation"))
    gateways: tuple[object, ...] = ()
    if config.ca is not None:
        try:
            gateways = load_pem(config.ca)
        except Untrusted:
            pass  # edge.identity says so
    return Trust(gateways=gateways, organisations=organisations), found  # type: ignore[arg-type]


def _port(place: str, path: str) -> list[Problem]:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        ports = [str(port) for folder in ("by-id", "by-path") for port in Path("/dev/serial", folder).glob("*")]
        advice = closest(path, ports) if ports else "plug the adapter in; look what is in /dev/serial/by-id"
        return [Problem(place, path, error.strerror or "cannot be used", advice)]
    if not stat.S_ISCHR(mode):
        return [Problem(place, path, "is no serial port", "look what is in /dev/serial/by-id")]
    if not os.access(path, os.R_OK | os.W_OK):
        return [Problem(place, path, "may not be used by this user", "usermod -aG dialout USER, and log in again")]
    return []


def _mqtt(config: Config, mqtt: Mqtt) -> list[Problem]:
    found: list[Problem] = []
    assert mqtt.ca is not None
    assert mqtt.certificate is not None
    assert mqtt.key is not None
    try:
        for root in load_pem(mqtt.ca):
            found += validity("mqtt.ca", mqtt.ca, root)
    except Untrusted as error:
        found.append(Problem("mqtt.ca", "", str(error), "get the CA's certificate from whoever runs the broker"))
    try:
        certificate = load_pem(mqtt.certificate)[0]
    except Untrusted as error:
        found.append(Problem("mqtt.certificate", "", str(error), "have a certificate issued for the broker"))
        return found
    if mqtt.certificate != config.certificate:  # that one has been looked at
        found += validity("mqtt.certificate", mqtt.certificate, certificate)
        if common_name(certificate) != f"gw-{config.gateway}":
            words = f"is issued to {common_name(certificate) or 'nobody'}, not to gw-{config.gateway}"
            found.append(Problem("mqtt.certificate", str(mqtt.certificate), words, "have one issued to this gateway"))
    try:
        if open_key(f"file:{mqtt.key}", config.base).public_key != certificate.public_key():
            words = f"is not the key of {mqtt.certificate}"
            found.append(Problem("mqtt.key", str(mqtt.key), words, "name the key that the certificate was issued for"))
    except KeyProblem as error:
        found.append(Problem("mqtt.key", "", str(error), advice_of(error, "aigeco keys create")))
    return found

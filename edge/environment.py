"""What the configuration counts on, looked at where it is: ports, files, certificates.

Changes nothing and opens no line and no connection.

Rules
- What is found here is a warning: what is missing may come (an adapter is plugged in); the rest is served meanwhile.
- What makes signing impossible is not a warning; :mod:`edge.identity` says it.
- A name that may move is a warning of its own, for who writes the configuration: the gateway works, so it is no alarm.
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

STABLE = Path("/dev/serial")
"""Where udev keeps names that stay when adapters are plugged elsewhere, or found in another order."""

_FOLDERS = ("by-id", "by-path")
"""Of them: by the adapter's own serial number, then by the socket it is in."""

_NUMBERED = ("ttyUSB", "ttyACM")


def check_environment(config: Config) -> list[Problem]:
    """All warnings about ports, broker files and organisations' roots."""
    found = []
    for number, bus in enumerate(config.buses):
        if isinstance(bus.endpoint, SerialEndpoint):
            found += _port(f"bus[{number}].serial", bus.endpoint.path)
    if config.mqtt and not config.mqtt.insecure:
        found += _mqtt(config, config.mqtt)
    return found + load_trust(config)[1]


def check_names(config: Config) -> list[Problem]:
    """A warning for each serial port whose name may be another adapter's after the next start."""
    found = []
    for number, bus in enumerate(config.buses):
        if isinstance(bus.endpoint, SerialEndpoint):
            path = bus.endpoint.path
            try:
                stable = stable_name(os.stat(path).st_rdev)
            except OSError:
                stable = ""
            words, advice = judge_name(path, stable)
            found += [Problem(f"bus[{number}].serial", path, words, advice)] if words else []
    return found


def judge_name(path: str, stable: str) -> tuple[str, str]:
    """What is wrong with the name of a serial port, and what to try; empty when it stays. ``stable``: another one."""
    if not Path(path).name.startswith(_NUMBERED):
        return "", ""
    advice = f'serial = "{stable}"' if stable else f"use a name in {STABLE}/by-path"
    return "its number may be another adapter's after the next start", advice


def stable_name(device: int) -> str:
    """The name that stays of the port with this device number, empty when there is none."""
    for folder in _FOLDERS:
        for name in sorted((STABLE / folder).glob("*")):
            try:
                if name.stat().st_rdev == device:
                    return str(name)
            except OSError:
                continue
    return ""


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
        ports = [str(port) for folder in _FOLDERS for port in (STABLE / folder).glob("*")]
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

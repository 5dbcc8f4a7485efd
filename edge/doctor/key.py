"""The signing key, its certificate, and the roots that are trusted: there, safe, belonging together, and for how long.

Signs nothing.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from drivers.table import Problem
from edge.doctor.finding import OPERATOR, ORGANISATION, Case, Finding, State, lasts, unseen, well
from edge.doctor.ports import agent_pid
from edge.environment import check_environment
from edge.identity import load_identity
from signer.trust import Untrusted, load_pem

AREA, TRUST = "key", "trust"


def check(case: Case) -> Iterator[Finding]:
    """Key and certificates of this gateway, for signing and for the broker."""
    config = case.config
    identity, wrong, warnings = load_identity(config)
    yield from (_of(problem, AREA, OPERATOR, case) for problem in wrong + warnings)
    path = config.base / config.key_uri.removeprefix("file:") if config.key_uri.startswith("file:") else None
    if identity is not None:
        yield well(AREA, config.key_uri, f"signs{_guarded(path)}; the certificate belongs to it")
    if path is not None:
        yield from judge_owner(path, _owner(path), _user(agent_pid(case)))
    yield from _lasting(AREA, "certificate", config.certificate, case.now_ms, OPERATOR)
    mqtt = config.mqtt
    if mqtt is not None and not mqtt.insecure:
        found = [problem for problem in check_environment(config) if problem.place.startswith("mqtt.")]
        yield from (_of(problem, AREA, OPERATOR, case) for problem in found)
        if mqtt.certificate is not None and mqtt.certificate != config.certificate:
            yield from _lasting(AREA, "mqtt.certificate", mqtt.certificate, case.now_ms, OPERATOR)


def check_trust(case: Case) -> Iterator[Finding]:
    """The organisations' roots, without which no receipt counts."""
    found = [problem for problem in check_environment(case.config) if problem.place.startswith("ledger.")]
    yield from (_of(problem, TRUST, ORGANISATION, case) for problem in found)
    for name, path in case.config.organisations.items():
        yield from _lasting(TRUST, name, path, case.now_ms, ORGANISATION)


def judge_owner(path: Path, owner: str, user: str) -> Iterator[Finding]:
    """Whether the key is of the user that the gateway runs as; ``user`` is empty when it does not run."""
    if user and owner and user not in (owner, "root"):
        words = f"belongs to {owner}, and the gateway runs as {user}"
        yield Finding(AREA, State.WARNING, str(path), words, OPERATOR, f"chown {user} {path}")


def _of(problem: Problem, area: str, move: str, case: Case) -> Finding:
    words = ": ".join(part for part in (problem.value, problem.words) if part)
    if case.hides(problem.words):
        return unseen(area, problem.place, words)
    return Finding(area, State.WRONG, problem.place, words, move, problem.advice)


def _lasting(area: str, place: str, path: Path, now_ms: int, move: str) -> Iterator[Finding]:
    try:
        certificate = load_pem(path)[0]
    except Untrusted:
        return  # said already
    finding = lasts(area, place, "", certificate.not_valid_after_utc, now_ms, move)
    expired = finding.state == State.WRONG
    if not expired or area == TRUST:  # of this gateway's own, edge.identity says it
        yield finding


def _guarded(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return f", mode {path.stat().st_mode & 0o777:04o}, of {_owner(path)}"
    except OSError:
        return ""


def _owner(path: Path) -> str:
    try:
        return _name(path.stat().st_uid)
    except OSError:
        return ""


def _user(pid: int | None) -> str:
    try:
        return _name(os.stat(f"/proc/{pid}").st_uid) if pid else ""
    except OSError:
        return ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"

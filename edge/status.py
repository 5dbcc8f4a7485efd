"""What a running agent tells other processes about itself: one small JSON file beside the spool.

Written whole or not at all (a new file renamed over the old one), never synced: it is of no use after a power cut.

Rules
- A full disk is when it matters most: then the old file, which has room to spare, is written over.
- Values are not in it: they are in the newest statements, which anyone may read from the spool (:func:`latest`).
- What ``_ALWAYS`` names stays what it is in every version; of a file of another version that is all that is taken.
- A file that is older than a minute, or whose process is gone, says how the agent was, not how it is.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.spool_read import SpoolReader
from edge.state import Alarm
from signer.codes import Kind
from signer.statement import Claims

VERSION = 2
_ALWAYS = ("version", "gateway", "pid", "updated_ms", "stopped")
_OTHER = Alarm(
    "version", "", "the gateway that runs is not of the version of this command; try: systemctl restart aigeco", True
)

REFRESH_S = 10.0
"""A running agent writes this often; news (a meter's trouble, an alarm) within two seconds."""

FRESH_S = 60.0
"""A running agent's file is younger than this, on a busy machine too."""

_BLOCK_BYTES = 4096
"""Of usual file systems: what is filled up to here costs nothing."""

_SPARE_BYTES = 1024
"""Room for some alarms more than there were when the disk was not full yet."""

_NEWEST = 4096
"""Statements that are looked through for each point's last reading."""


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Put the document in place of the old one.

    Raises:
        OSError: it cannot be written.
    """
    text = json.dumps(document, separators=(",", ":")).encode()
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(text.ljust(-(-(len(text) + _SPARE_BYTES) // _BLOCK_BYTES) * _BLOCK_BYTES))
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        if error.errno != errno.ENOSPC or not _write_over(path, text):
            raise OSError(error.errno, error.strerror, str(path)) from error


def _write_over(path: Path, text: bytes) -> bool:
    """Write into the blocks that the old document has; False when it does not fit, or there is no old one."""
    try:
        room = path.stat().st_size
        if len(text) > room:
            return False
        with path.open("r+b") as file:
            file.write(text.ljust(room))
    except OSError:
        return False
    return True


def read(path: Path) -> dict[str, Any] | None:
    """The document, None when there is none that can be read.

    ``running`` in it is False when its process is gone. After an update the agent that still runs may be of another
    version: then it says little more than that.
    """
    try:
        document: Any = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("version"), int):
        return None
    told: dict[str, Any] = document
    if told["version"] != VERSION:
        told = {key: told[key] for key in _ALWAYS if key in told} | {"alarms": [_OTHER._asdict()]}
    told["running"] = _lives(told.get("pid"))
    return told


def alarms(told: Mapping[str, Any]) -> list[Alarm]:
    """What the agent says that somebody should look at."""
    return [Alarm(**each) for each in told.get("alarms", ())]


def latest(reader: SpoolReader) -> dict[str, Claims]:
    """Measuring point -> its last reading, of the points that were read lately."""
    found: dict[str, Claims] = {}
    for claims in reader.newest(_NEWEST):
        if claims.kind == Kind.READING:
            found.setdefault(claims.sub, claims)
    return dict(sorted(found.items()))


def _lives(pid: object) -> bool:
    return isinstance(pid, int) and pid > 0 and Path(f"/proc/{pid}").exists()

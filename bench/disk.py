"""A place to write to whose physical writes can be counted.

Rules
- As root with loop devices: ext4 with 4 KiB blocks in a file, direct I/O below it, counted at the block device: data,
  journal and file system structures alike. This is what an SD card would get.
- Otherwise a folder, and what the kernel charges to this process (``/proc/self/io``): no journal, so it says less.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SECTOR_BYTES = 512
_SIZE = 1 << 30
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Disk:
    """Where to write.

    Attributes:
        folder: the place.
        device: name of the block device, ``""`` when this process' own count is all there is.
    """

    folder: Path
    device: str

    @property
    def how(self) -> str:
        """How writes are counted, for a note."""
        if self.device:
            return (
                f"Physical bytes: /sys/block/{self.device}/stat, ext4 with 4 KiB blocks on a loop device, direct I/O."
            )
        return "Physical bytes: /proc/self/io, without a loop device; the file system's journal is not in it."

    def written_bytes(self) -> int:
        """Bytes written so far."""
        if self.device:
            return int(Path(f"/sys/block/{self.device}/stat").read_text().split()[6]) * _SECTOR_BYTES
        for line in Path("/proc/self/io").read_text().splitlines():
            if line.startswith("write_bytes:"):
                return int(line.split()[1])
        raise RuntimeError("/proc/self/io does not say how much was written")

    def commit_journal(self, changed: Path) -> None:
        """What ext4 does every five seconds by itself: write the journal, with the times of ``changed`` in it."""
        with changed.open("rb") as file:
            os.fsync(file.fileno())

    def write_back(self) -> None:
        """What the kernel does after thirty seconds: all that is dirty is written to its place."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            if self.device and _LIBC.syncfs(handle):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(handle)


@contextmanager
def fresh(loop: bool = True) -> Iterator[Disk]:
    """An empty disk, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="aigeco-bench-") as name:
        base = Path(name)
        device = _attach(base / "image") if loop and os.geteuid() == 0 else ""
        if not device:
            yield Disk(base, "")
            return
        folder = base / "disk"
        folder.mkdir()
        try:
            _run("mkfs.ext4", "-q", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
            _run("mount", device, str(folder))
            try:
                disk = Disk(folder, device.rpartition("/")[2])
                disk.write_back()
                yield disk
            finally:
                _run("umount", str(folder))
        finally:
            _run("losetup", "--detach", device)


def _attach(image: Path) -> str:
    """The loop device over a new file; ``""`` where there are none."""
    image.touch()
    os.truncate(image, _SIZE)
    try:
        return _run("losetup", "--find", "--show", "--direct-io=on", str(image))
    except (OSError, subprocess.CalledProcessError):
        return ""


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

"""Power cuts: an ext4 file system that loses its page cache and its unwritten journal while the spool is being written.

Needs root and a loop device, so it is a campaign (`make soak`). ``synchronous=NORMAL`` makes it fail, which is how it
was checked that it can. The writing process is stopped before the cut: an fdatasync that is under way while the file
system is shut down may return 0 though its journal was given up, which no machine without power can do.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.spool import Spool
from signer import statement
from tests.edge.chains import GATEWAY

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, ``_IOR('X', 125, __u32)``."""

_NO_LOG_FLUSH = 2

_WRITES = """
import os, sys
from pathlib import Path
from edge.spool import Spool
from tests.edge import chains
spool = Spool.open(Path(sys.argv[1]), chains.GATEWAY, 0)
previous = spool.head
made_by = chains.chain(previous, seed=int(sys.argv[2]))
if previous is None:
    spool.append([chains.genesis(made_by)])
slot = 0
while True:
    slot += 1
    made = chains.readings(made_by, 8, slot)
    spool.append(made)
    os.write(1, "".join(f"{each.seq} {each.sid.hex()}\\n" for each in made).encode())
    if slot % 5 == 0 and (batch := spool.next_batch()):
        spool.settle(batch, [])
        spool.prune(4)
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and wait until it has come out of the kernel."""
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)


@contextmanager
def mounted(device: str, place: Path) -> Iterator[None]:
    run("mount", "-o", "noatime", device, str(place))
    try:
        yield
    finally:
        run("umount", str(place))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "card"
    image.touch()
    os.truncate(image, 96 << 20)
    try:
        run("mkfs.ext4", "-q", "-b", "4096", str(image))
        loop = subprocess.check_output(["losetup", "--find", "--show", str(image)], text=True).strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device: {error}")
    yield loop
    subprocess.run(["losetup", "--detach", loop], check=False)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_was_stored_survives_power_cuts(tmp_path: Path, device: str) -> None:
    place = tmp_path / "mnt"
    place.mkdir()
    choose = random.Random(7)
    stored: dict[int, str] = {}
    for cut in range(40):
        with mounted(device, place):
            process = subprocess.Popen(
                [sys.executable, "-c", _WRITES, str(place / "spool.db"), str(cut)], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            said = process.stdout.readline()
            time.sleep(choose.uniform(0.0, 0.7))
            stop(process)
            folder = os.open(place, os.O_RDONLY)
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
            os.close(folder)
            process.kill()
            said += process.communicate()[0]
        for line in said.decode().splitlines():
            seq, sid = line.split(" ")
            if len(sid) == 64:
                assert stored.setdefault(int(seq), sid) == sid
        with mounted(device, place):
            spool = Spool.open(place / "spool.db", GATEWAY, 0)
            assert spool.was_set_aside is None
            assert spool.head is not None
            held = {seq: statement.parse(message).sid for seq, message in spool.statements(1)}
            held |= dict(spool.pruned(1))
            spool.close()
        lost = [seq for seq, sid in stored.items() if held.get(seq) != bytes.fromhex(sid)]
        assert not lost, f"cut {cut}: {len(lost)} of {len(stored)} are gone"
        assert sorted(held) == list(range(len(held)))
        stored |= {seq: sid.hex() for seq, sid in held.items()}

"""The site's documents: durable, versioned, and never lost to damage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.lockfile import Held
from edge.site import COMMISSIONING, METER, VISIT, DurableFile, Site, SiteDamaged, SiteNewer, Tables

NOW_MS = 1_790_000_000_000


def opened(path: Path) -> Site:
    return Site(path, lambda: NOW_MS)


def test_what_is_noted_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    with opened(path) as site:
        site.add(VISIT, {"technician": "Núria", "meter": "house"})
        site.add(COMMISSIONING, {"meter": "house", "seq": 7})
    with opened(path) as site:
        assert site.all(VISIT) == [{"at_ms": NOW_MS, "technician": "Núria", "meter": "house"}]
        assert [each["seq"] for each in site.all(COMMISSIONING)] == [7]
    assert "Núria" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_meter_has_revisions_and_what_did_not_change_makes_none(tmp_path: Path) -> None:
    with opened(tmp_path / "site.json") as site:
        assert site.revise(METER, "house", {"model": "a", "limits": (1, 2)}) == 1
        assert site.revise(METER, "house", {"model": "a", "limits": (1, 2)}) == 1
        assert site.revise(METER, "pv", {"model": "a"}) == 1
        assert site.revise(METER, "house", {"model": "b"}) == 2
        assert [each["revision"] for each in site.all(METER) if each["name"] == "house"] == [1, 2]
        latest = site.latest(METER, "house")
        assert latest is not None
        assert latest["model"] == "b"
        assert site.latest(METER, "cellar") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"meter": []}',
        b'{"meter": {"1": 5}}',
        b'{"meter": {"x": {}}}',
        b'{"meter": {"1": {}}}',
        b'{"about": {"1": {}}}',
        b'{"about": {"1": {"version": "1"}}}',
        b'{"about": {"1": {"version": 0}}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_set_aside_and_said_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.json"
    path.write_bytes(content)
    with pytest.raises(SiteDamaged, match="was set aside as") as said:
        opened(path)
    (aside,) = tmp_path.glob("site.json.set-aside-*")
    assert str(aside) in str(said.value)
    assert aside.read_bytes() == content
    with opened(path) as site:
        assert site.all(METER) == []


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    path.write_text('{"about": {"1": {"version": 2}}, "drones": {}}')
    before = path.read_bytes()
    with pytest.raises(SiteNewer, match="version 2"):
        opened(path)
    assert path.read_bytes() == before
    with pytest.raises(SiteNewer):  # and the lock was given back
        opened(path)


class TestAnOlderFile:
    """What a later version will do: the first one's visits get another name, then a field of each does."""

    @staticmethod
    def first(tables: Tables) -> None:
        tables["inspection"] = tables.pop(VISIT)

    @staticmethod
    def second(tables: Tables) -> None:
        for row in tables["inspection"].values():
            row["who"] = row.pop("technician")

    def test_it_is_brought_up_to_date_and_nothing_is_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "site.json"
        with opened(path) as site:
            site.add(VISIT, {"technician": "Núria"})
            site.revise(METER, "house", {"model": "a"})
        for steps in ((self.first,), (self.first, self.second), (self.first, self.second)):
            with Site(path, lambda: NOW_MS, steps) as site:
                who = "who" if len(steps) > 1 else "technician"
                assert site.all("inspection") == [{"at_ms": NOW_MS, who: "Núria"}]
                assert site.latest(METER, "house") is not None
                assert site.revise(METER, "house", {"model": "a"}) == 1
            assert json.loads(path.read_text())["about"] == {"1": {"version": 1 + len(steps)}}
        with pytest.raises(SiteNewer, match="is of version 3, this software knows 1"):
            opened(path)

    def test_a_step_that_fails_leaves_it_as_it_was(self, tmp_path: Path) -> None:
        def bad(tables: Tables) -> None:
            tables.clear()
            raise RuntimeError("a bug")

        path = tmp_path / "site.json"
        with opened(path) as site:
            site.add(VISIT, {"technician": "Núria"})
        before = path.read_bytes()
        with pytest.raises(RuntimeError):
            Site(path, lambda: NOW_MS, (self.first, bad))
        assert path.read_bytes() == before
        with opened(path) as site:  # and the lock was given back
            assert len(site.all(VISIT)) == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path / "site.json"), pytest.raises(Held):
        opened(tmp_path / "site.json")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, call: str) -> None:
    """The process is killed just before each fsync and each rename of a change, in turn."""
    path = tmp_path / "site.json"
    with opened(path) as site:
        site.add(VISIT, {"number": 0})
    code = """
import os, sys
from pathlib import Path
from edge.site import Site, VISIT
path, call, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
really = getattr(os, call)
def deadly(*args):
    global left
    left -= 1
    if left < 0: os._exit(9)
    return really(*args)
site = Site(path)
setattr(os, call, deadly)
site.add(VISIT, {"number": 1})
"""
    outcomes = []
    for step in range(4):
        done = subprocess.run([sys.executable, "-c", code, str(path), call, str(step)], timeout=30, check=False)
        with opened(path) as site:
            numbers = [each["number"] for each in site.all(VISIT)]
        assert numbers[0] == 0
        assert set(numbers[1:]) <= {1}
        outcomes.append(done.returncode)
        if done.returncode == 0:
            break
    assert outcomes[0] == 9
    assert outcomes[-1] == 0


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "site.json"
    with opened(path) as site:
        site.add(VISIT, {"number": 0})

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            site.add(VISIT, {"number": 1})
    assert json.loads(path.read_text())["visit"] == {"1": {"at_ms": NOW_MS, "number": 0}}


def test_storage_reads_what_it_wrote(tmp_path: Path) -> None:
    file = DurableFile(tmp_path / "x.json")
    assert file.read() is None
    file.write({"a": {"1": {"b": [1, "é", None]}}})
    assert file.read() == {"a": {"1": {"b": [1, "é", None]}}}

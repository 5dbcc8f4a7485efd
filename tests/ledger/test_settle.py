"""``aigeco-peer settle``: a community of two homes over two days, by commands only; and how time is cut into calls."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_sim import month
from ledger.cli.main import cli
from ledger.community import Doubt, Stretch, doubts, joined, plan
from ledger.embedded import LedgerFile
from ledger.moments import instant
from ledger.rules.record import pack

QUARTER = 900_000
DAY = 96 * QUARTER
FIRST = instant("2026-10-01", "peninsula")
TOML = """\
organisation = "CommunityMSP"
receipts = { key = "file:receipts.key", certificate = "receipts.pem" }
gateways = { roots = ["month/gateways.pem"] }
mqtt = { host = "localhost", insecure = true }
"""


class Site:
    """A ledger, and commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "peer.toml").write_text(TOML)

    def run(self, *words: str, code: int = 0) -> str:
        """What the command prints; what it complains about where it is to fail."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main(["--config", str(self.folder / "peer.toml"), *words], prog_name="aigeco-peer")
        assert ended.value.code == code, f"{words}: {ended.value.code}\n{out.getvalue()}{err.getvalue()}"
        if words[0] != "query" and "--json" not in words:
            assert all(len(line) <= 80 for line in out.getvalue().splitlines()), out.getvalue()
        return err.getvalue() if code else out.getvalue()

    def settle(self, *words: str, code: int = 0) -> str:
        return self.run("settle", *words, code=code)

    def json(self, *words: str) -> Any:
        return json.loads(self.settle(*words, "--json"))

    def submit(self, gateway: str, batch: bytes) -> None:
        file = LedgerFile(self.folder / "ledger.db", "CommunityMSP")
        given = pack({"gateway": gateway})
        answer = file.transact(lambda: file.operator.call("measurements", "SubmitBatch", given, {"batch": batch}))
        assert json.loads(answer.answer)["outcome"] == "committed"
        file.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two homes and a roof over two days; the second home's batch is late."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.setattr(month, "BATCH", 120)
        made = Site(tmp_path_factory.mktemp("settle"))
        written = list(month.write(made.folder / "month", FIRST, FIRST + 2 * DAY, 2))
        made.run("gateways", "trust", str(made.folder / "month" / month.AUTHORITY))
        for each in written:
            made.run("gateways", "add", each.gateway)
            for path in each.files:
                if path.name != "home-2-02.batch":
                    made.submit(each.gateway, path.read_bytes())
        made.settle("create", "sol", "--minutes", "15")
        made.settle("member", "sol", "ana", "ben")
        made.settle("point", "sol", "roof", "--at", "roof/pv", "--from", "2026-10-01")
        for number, name in enumerate(("ana", "ben"), 1):
            place = ("--at", f"home-{number}/main", "--member", name)
            made.settle("point", "sol", f"{name}-home", *place, "--from", "2026-10-01")
        (made.folder / "cups.csv").write_text("ana;ES01\nben;ES02\n")
        (made.folder / "parts.txt").write_text("ES02;0,25\r\nES01;0,75\r\n")
        files = ("--cups", str(made.folder / "cups.csv"))
        made.settle("coefficients", "sol", str(made.folder / "parts.txt"), "--from", "2026-10-01", *files)
        yield made


UNTIL = ("--until", "2026-10-03")
MONTH = ("--month", "2026-10")


@pytest.fixture(scope="module")
def settled(site: Site) -> Site:
    """The two days as they stand when everything has come."""
    late = site.folder / "month" / "home-2-02.batch"
    if late.exists():
        site.submit("home-2", late.read_bytes())
        late.unlink()
    site.settle("run", "sol", *UNTIL)
    return site


def test_what_is_due_is_settled_and_what_comes_late_settled_again(site: Site) -> None:
    first = site.settle("run", "sol", *UNTIL)
    assert "2026-10-01 00:00  96 settled (version 1)" in first
    assert "sol: 118 settled, 74 open; 2 of 2 stretches are new" in first
    said = site.settle("state", "sol")
    assert "2026-10-02 05:30  05:45" in said
    assert "2026-10-02 05:45  10-03 00:00  open: no statement at the start  ben" in said
    (_, (late,)) = [[each for each in site.json("state", "sol")["doubts"] if each["periods"] == n] for n in (1, 73)]
    assert (late["state"], late["members"]) == ("open", ["ben"])

    late_batch = site.folder / "month" / "home-2-02.batch"
    site.submit("home-2", late_batch.read_bytes())
    late_batch.unlink()
    again = site.settle("run", "sol", *UNTIL)
    assert "2026-10-02 00:00  96 settled (version 2)" in again
    assert "sol: 192 settled; 1 of 2 stretches are new" in again
    assert "0 of 2 stretches are new" in site.settle("run", "sol", *UNTIL)
    told = site.json("run", "sol", *UNTIL, "--again")["stretches"]
    assert [(each["version"], each["new"], each["declined"]) for each in told] == [(1, False, None), (2, False, None)]


def test_results_and_transfers_add_up(settled: Site) -> None:
    rows = {row["member"]: row["wh"] for row in settled.json("results", "sol", *MONTH)["results"]}
    by_day = settled.json("results", "sol", *MONTH, "--by", "day")["results"]
    by_period = settled.json("results", "sol", *MONTH, "--by", "period", "--member", "ana")["results"]
    for name, wh in rows.items():
        assert wh["allotted"] == wh["self_consumed"] + wh["surplus"]
        assert wh["consumed"] == wh["self_consumed"] + wh["from_grid"]
        for column, total in wh.items():
            assert sum(row["wh"][column] for row in by_day if row["member"] == name) == total
    assert sum(row["wh"]["consumed"] for row in by_period) == rows["ana"]["consumed"]
    moved = settled.json("transfers", "sol", *MONTH)["transfers"]
    for name, wh in rows.items():
        assert sum(row["wh"] for row in moved if row["from"] == name) == wh["surplus"]
        assert sum(row["wh"] for row in moved if row["to"] == name) == wh["from_grid"]
    alone = settled.json("transfers", "sol", *MONTH, "--member", "ana", "--as", "ana")["transfers"]
    assert sorted(map(str, alone)) == sorted(str(row) for row in moved if "ana" in (row["from"], row["to"]))
    assert "kWh of sol, 2026-10" in settled.settle("results", "sol", *MONTH)
    assert "(grid)" in settled.settle("transfers", "sol", *MONTH)


def test_a_month_that_is_not_over_has_no_statement_and_prices_are_checked(settled: Site) -> None:
    assert "not yet: the period from" in settled.settle(
        "statement", "sol", *MONTH, "--buy", "0,1", "--sell", "0", code=4
    )
    assert "prices are missing" in settled.settle("statement", "sol", *MONTH, "--buy", "0.1", code=2)
    prices = settled.folder / "prices.csv"
    prices.write_text("1;0,15;0,06\n3;0,15;0,06\n")
    assert "line 2: 2;buy;sell" in settled.settle("statement", "sol", *MONTH, "--prices", str(prices), code=2)
    prices.write_text("1;0,15;0,06\n")
    assert "1 lines, and the month has 745" in settled.settle(
        "statement", "sol", *MONTH, "--prices", str(prices), code=2
    )
    assert "--buy x" in settled.settle("statement", "sol", *MONTH, "--buy", "x", "--sell", "0", code=2)


def test_files_for_the_distributor(settled: Site) -> None:
    out = settled.folder / "out"
    given = ("--cups", str(settled.folder / "cups.csv"), "--cau", "ES01A000", "--out", str(out))
    said = settled.settle("files", "sol", *MONTH, *given).split()
    assert [Path(path).name for path in said] == ["ES01A000_2026.txt", "ES01A000_2026-10.csv"]
    assert Path(said[0]).read_bytes() == b"ES01;0,750000\r\nES02;0,250000\r\n"
    assert len(Path(said[1]).read_text().splitlines()) == 1 + 2 * 2 * 96


def test_the_group_is_shown_and_mistakes_are_said(settled: Site) -> None:
    said = settled.settle("show", "sol")
    assert "Shared fixed from 2026-10-01 00:00 on" in said
    assert "ben     0.25" in said
    assert settled.json("show", "sol")["agreements"][0]["coefficients"] == {"ana": 750_000, "ben": 250_000}
    assert "there is no group luna" in settled.settle("show", "luna", code=4)
    assert "is no date or time" in settled.settle("run", "sol", "--until", "yesterday", code=2)
    assert "is no month" in settled.settle("results", "sol", "--month", "october", code=2)
    assert "--at with --from adds a point" in settled.settle("point", "sol", "p", "--from", "2026-10-01", code=2)
    parts = settled.folder / "bad.txt"
    parts.write_text("ana;0,5\nben;0,4\n")
    assert "add up to 0.900000" in settled.settle("coefficients", "sol", str(parts), "--from", "2027-01-01", code=2)


def test_coefficients_of_each_hour_go_in_parts_and_go_on_where_they_were_broken_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger.cli import settle

    site.settle("create", "luna")
    site.settle("member", "luna", "ana", "ben")
    parts = site.folder / "hours.txt"
    rows = [(f"ana;{hour:04};0,{hour:06}", f"ben;{hour:04};0,{1_000_000 - hour:06}") for hour in range(1, 8761)]
    parts.write_text("\r\n".join(line for row in rows for line in row))
    given = ("coefficients", "luna", str(parts), "--from", "2027-01-01")
    assert "luna shares hourly among 2 members" in site.settle(*given)
    monkeypatch.setattr(settle, "_NUMBERS_A_CALL", 30_000)
    assert "luna shares hourly" in site.settle(*given)
    assert "of each hour" in site.settle("show", "luna")
    asked = {"group": "luna", "from_ms": instant("2027-01-01", "peninsula"), "year": 2027, "day": 364}
    said = site.run("query", "sharing", "Coefficients", "--arguments", json.dumps(asked))
    assert json.loads(said)["members"]["ana"] == list(range(8737, 8761))
    assert "one coefficient a member" in site.settle(*given, "--by-consumption", code=2)


def test_orders_and_disputes_by_the_members_themselves(settled: Site) -> None:
    terms = ("sol", "ana", "ben", "--from", "2999-01-01", "--limit", "100", "--price", "0.08")
    assert "only that member's own certificate" in settled.settle("order", "offer", *terms, "--as", "ben", code=4)
    settled.settle("order", "offer", *terms, "--as", "ana")
    wrong = (*terms[:-1], "0.09")
    assert "not the terms" in settled.settle("order", "accept", *wrong, "--as", "ben", code=4)
    settled.settle("order", "accept", *terms, "--as", "ben")
    assert settled.json("order", "list", "sol")["orders"][0]["state"] == "standing"
    settled.settle("order", "end", *terms[:5], "--until", "2999-02-01", "--as", "ben")
    assert "2999-02-01 00:00" in settled.settle("order", "list", "sol")
    said = settled.settle("dispute", "raise", "sol", "ben", "2026-10-02", "I had the oven on", "--as", "ben")
    name = said.split()[1]
    upheld = ("sol", "2026-10-02", name, "upheld")
    assert "is the last: settle and record again first" in settled.settle("dispute", "resolve", *upheld, code=4)
    settled.settle("dispute", "resolve", *upheld[:3], "rejected")
    assert "rejected" in settled.settle("dispute", "list", "sol", "2026-10-02")


def test_guarantees_of_origin(settled: Site) -> None:
    given = ("--at", "roof/pv", "--owner", "ana", "--from", "2026-10-01")
    settled.settle("origin", "register", "pv", *given)
    lot = json.loads(settled.settle("origin", "issue", "pv", "--until", "2026-10-02", "--json"))
    assert lot["first"] == 1
    assert lot["count"] >= 2
    assert "its own certificate is needed" in settled.settle(
        "origin", "transfer", "pv", "1", "1", "--to", "ben", code=4
    )
    settled.settle("origin", "transfer", "pv", "1", "1", "--to", "ben", "--as", "ana")
    settled.settle("origin", "retire", "pv", "1", "1", "--for", "the bakery", "--as", "ben")
    said = settled.settle("origin", "list", "pv")
    assert "1-1" in said
    assert "the bakery" in said
    assert "certified again" in settled.settle("origin", "skip", "pv", "--until", "2026-10-03", "--why", "a new meter")


# ---- how time is cut


def _point(kind: str, from_ms: int, until_ms: int | None = None) -> dict[str, Any]:
    return {"kind": kind, "from_ms": from_ms, "until_ms": until_ms}


def _run(first_ms: int, count: int, still_open: int = 0) -> dict[str, Any]:
    periods = {"settled": count - still_open, "provisional": 0, "open": still_open}
    return {"first_ms": first_ms, "count": count, "period_ms": QUARTER, "version": 3, "periods": periods}


def test_a_stretch_is_a_day_of_legal_time_and_ends_where_something_changes() -> None:
    begin = instant("2026-10-24", "peninsula")
    points = [_point("generation", begin), _point("consumption", begin + DAY + 8 * QUARTER)]
    found = plan(QUARTER, "peninsula", [{"from_ms": begin}], points, [], 0, begin + 3 * DAY)
    assert [stretch.count for stretch in found] == [96, 8, 92, 92]  # the day of 25 hours, cut; the rest of the time
    assert plan(QUARTER, "peninsula", [], points, [], 0, begin + DAY) == []


def test_what_stands_stays_and_the_gaps_are_filled() -> None:
    points = [_point("generation", FIRST)]
    runs = [_run(FIRST + 4 * QUARTER, 2, still_open=1), _run(FIRST + DAY, 96)]
    found = plan(QUARTER, "peninsula", [{"from_ms": FIRST}], points, runs, 0, FIRST + 2 * DAY)
    assert found == [
        Stretch(FIRST, 4),
        Stretch(FIRST + 4 * QUARTER, 2, 3, True),
        Stretch(FIRST + 6 * QUARTER, 90),
        Stretch(FIRST + DAY, 96, 3),
    ]


@settings(max_examples=60)
@given(
    st.integers(1, 400),
    st.lists(st.integers(0, 400), max_size=3),
    st.lists(st.tuples(st.integers(0, 380), st.integers(1, 60)), max_size=3),
)
def test_every_period_is_in_one_stretch(count: int, changes: list[int], standing: list[tuple[int, int]]) -> None:
    points = [_point("generation", FIRST)] * 250 + [_point("consumption", FIRST + at * QUARTER) for at in changes]
    runs, after = [], 0
    for at, length in sorted(standing):
        if at >= after:
            runs.append(_run(FIRST + at * QUARTER, length))
            after = at + length
    until_ms = FIRST + count * QUARTER
    found = plan(QUARTER, "peninsula", [{"from_ms": FIRST}], points, runs, 0, until_ms)
    covered = [stretch.first_ms + number * QUARTER for stretch in found for number in range(stretch.count)]
    assert covered == sorted(set(covered))
    assert set(range(FIRST, until_ms, QUARTER)) <= set(covered)
    for stretch in found:
        if not stretch.version:
            assert stretch.count * len(points) <= 20_000
            assert not any(
                stretch.first_ms < point["from_ms"] < stretch.first_ms + stretch.count * QUARTER for point in points
            )


def test_doubts_are_joined_over_the_end_of_a_stretch() -> None:
    part = {"state": ["settled", "open", "open"], "reason": ["", "no register", "no register"]}
    good = {"state": ["settled"] * 3, "reason": [""] * 3}
    found = list(doubts({"run": _run(FIRST, 3), "members": {"ana": part, "ben": good}}))
    assert found == [Doubt(FIRST + QUARTER, FIRST + 3 * QUARTER, 2, "open", "no register", ("ana",), False)]
    later = Doubt(FIRST + 3 * QUARTER, FIRST + 4 * QUARTER, 1, "open", "no register", ("ana",), False)
    (one,) = joined([*found, later])
    assert (one.start_ms, one.end_ms, one.periods) == (FIRST + QUARTER, FIRST + 4 * QUARTER, 3)

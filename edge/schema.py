"""The spool's tables, and how a file of an older format becomes one of this format.

Opens no file; when a step is taken, and that all of them are one transaction, is :mod:`edge.database`'s.

Rules
- ``_TABLES`` is what a new file gets. Who changes it adds a step at the end of ``_STEPS`` that makes the same of a file
  of the format before, and a file made by the code before to tests/data/spools: both ways must end in the same tables.
- A step, once it was on a gateway, is never changed: a file may come from any format since the first.
- A step copies and moves what is stored, byte by byte; what is evidence stays what it was.
"""

from __future__ import annotations

from edge.database import Schema, Writing

_TABLES = """
CREATE TABLE owner (gateway TEXT NOT NULL);
CREATE TABLE stream (number INTEGER PRIMARY KEY, id BLOB NOT NULL, abandoned_from INTEGER, carried_to INTEGER);
CREATE TABLE run (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, statements BLOB NOT NULL);
CREATE TABLE pruned (id INTEGER PRIMARY KEY, sids BLOB NOT NULL);
CREATE TABLE batch (id INTEGER PRIMARY KEY, count INTEGER NOT NULL, root BLOB NOT NULL, committed INTEGER NOT NULL);
CREATE TABLE receipt (batch INTEGER NOT NULL, organisation TEXT NOT NULL, channel TEXT NOT NULL, block INTEGER NOT NULL,
                      data BLOB NOT NULL, PRIMARY KEY (batch, organisation, channel, block)) WITHOUT ROWID;
CREATE TABLE newest (organisation TEXT NOT NULL, channel TEXT NOT NULL, block INTEGER NOT NULL,
                     PRIMARY KEY (organisation, channel)) WITHOUT ROWID;
CREATE TABLE process (one INTEGER PRIMARY KEY, boot INTEGER NOT NULL, host_boot TEXT NOT NULL, version TEXT NOT NULL,
                      ended TEXT NOT NULL, began INTEGER NOT NULL, matched INTEGER);
CREATE TABLE map (digest BLOB PRIMARY KEY, name TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshot (one INTEGER PRIMARY KEY, upto INTEGER NOT NULL, positions TEXT NOT NULL,
                       places TEXT NOT NULL DEFAULT '{}');
"""


def _maps(db: Writing) -> None:
    """1 -> 2: register maps are kept. Files that said 1 were made with the table and, before that, without it."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS map (digest BLOB PRIMARY KEY, name TEXT NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
    )


def _places(db: Writing) -> None:
    """2 -> 3: where each point's last reading is; of those before, it is not known."""
    db.execute("ALTER TABLE snapshot ADD COLUMN places TEXT NOT NULL DEFAULT '{}'")


_STEPS = (_maps, _places)
"""From format 1 to 2, from 2 to 3, and so on."""

SPOOL = Schema(_TABLES, _STEPS)

"""The tables of an embedded ledger, and how an older file becomes one of today.

Rules
- One transaction: until it is on the disk the file is what it was, whole.
- Whoever writes brings a file up to date, whoever reads says that it has to be (docs/adr/0009).

Version 1 had a table of gateways. 2 has contracts, and the registry is one of them. 3 has batches committed by the
contract ``measurements``; what 2 had in tables of its own is written again by the contract, as it was judged then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger import world_file
from ledger.contracts import CONTRACTS
from ledger.operator import Operator, ingestion
from ledger.rules import batches
from ledger.rules.measurements import Accepted, Fork, Gateway, Stream
from ledger.rules.record import pack
from ledger.rules.world import Call, Function, State
from ledger.world_file import FileWorld
from signer.batch import Batch, parse
from signer.codes import Kind
from signer.statement import Claims

VERSION = 3

_SCHEMA = """
CREATE TABLE ledger (version INTEGER NOT NULL, organisation TEXT NOT NULL);
"""
_BLOCKS = """
CREATE TABLE blocks (
    block INTEGER PRIMARY KEY, txid BLOB NOT NULL, stream BLOB NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
    root BLOB NOT NULL, issued_s INTEGER NOT NULL, receipt BLOB NOT NULL);
CREATE UNIQUE INDEX places ON blocks (stream, first);
"""


def create(sql: sqlite3.Connection, organisation: str, now_s: Callable[[], float]) -> None:
    """Make the tables in an empty file, and found the registry; all or nothing."""
    with sql:
        sql.execute("BEGIN IMMEDIATE")
        _run(sql, _SCHEMA)
        _run(sql, _BLOCKS)
        _run(sql, world_file.SCHEMA)
        sql.execute("INSERT INTO ledger VALUES (?, ?)", (VERSION, organisation))
        _operator(sql, organisation, now_s).found()


def migrate(sql: sqlite3.Connection, version: int, organisation: str, now_s: Callable[[], float]) -> None:
    """Bring a file of an older version up to date; all or nothing."""
    with sql:
        sql.execute("BEGIN IMMEDIATE")
        if version < 2:
            _to_2(sql, organisation, now_s)
        if version < 3:
            _to_3(sql, organisation)
        sql.execute("UPDATE ledger SET version = ?", (VERSION,))


def _to_2(sql: sqlite3.Connection, organisation: str, now_s: Callable[[], float]) -> None:
    _run(sql, world_file.SCHEMA)
    operator = _operator(sql, organisation, now_s)
    operator.found()
    query = "SELECT gateway, root, certificate, revoked FROM gateways ORDER BY gateway"
    for gateway, root, certificate, revoked in sql.execute(query).fetchall():
        operator.register(Gateway(gateway, root, certificate, bool(revoked)))
    sql.execute("DROP TABLE gateways")


def _to_3(sql: sqlite3.Connection, organisation: str) -> None:
    sql.execute("DROP INDEX places")
    _run(sql, _BLOCKS)
    sql.execute("CREATE INDEX IF NOT EXISTS moments ON calls (time_ms)")
    world, streams = FileWorld(sql, CONTRACTS), dict[bytes, Stream]()
    for txid, issued_s, data in sql.execute("SELECT txid, issued_s, data FROM batches ORDER BY block"):
        batch, claims = parse(data)
        accepted = _accepted(streams.get(batch.stream), batch, claims)
        streams[batch.stream] = accepted.stream
        _again(world, organisation, claims[0].gateway, issued_s, _written(batch, claims, accepted), txid)
    sql.execute("INSERT INTO blocks SELECT block, txid, stream, first, count, root, issued_s, receipt FROM batches")
    query = "SELECT stream, seq, committed, other, statement, root, seen_s FROM forks ORDER BY seen_s, stream, seq"
    for *sides, root, seen_s in sql.execute(query):
        fork = Fork(*sides)
        _again(world, organisation, streams[fork.stream].gateway, seen_s, _forked(fork, root))
    known = [Stream(*row) for row in sql.execute("SELECT stream, gateway, seq, head, key, recovers FROM streams")]
    if {stream.stream: stream for stream in known} != streams:
        raise sqlite3.IntegrityError("the batches do not lead to where the streams stand")
    for table in ("streams", "keys", "batches", "forks"):
        sql.execute(f"DROP TABLE {table}")


def _again(
    world: FileWorld, organisation: str, gateway: str, time_s: int, do: Function, txid: bytes | None = None
) -> None:
    """A call of ``SubmitBatch`` as it would have been."""
    arguments = pack({"gateway": gateway})
    world.commit(batches.NAME, "SubmitBatch", arguments, ingestion(organisation), time_s * 1000, given=txid, do=do)


def _written(batch: Batch, claims: Sequence[Claims], accepted: Accepted) -> Function:
    return lambda state, call: pack(batches.write(state, call, batch, claims, accepted))


def _forked(fork: Fork, root: bytes) -> Function:
    def write(state: State, call: Call) -> bytes:
        batches.write_fork(state, call, fork, root)
        return b""

    return write


def _accepted(before: Stream | None, batch: Batch, claims: Sequence[Claims]) -> Accepted:
    """What the rules have said of a committed batch."""
    if before is None:
        genesis = claims[0]
        recovered = genesis.body[13].get(3)
        recovers = recovered[0] if recovered is not None else None
        before = Stream(batch.stream, genesis.gateway, -1, batch.prev, _key(genesis), recovers)
    spki = _key(claims[-1]) if claims[-1].kind == Kind.REKEY else before.key
    seq = batch.first + batch.count - 1
    return Accepted(replace(before, seq=seq, head=batch.head, key=spki), before.key)


def _key(claim: Claims) -> bytes:
    """SubjectPublicKeyInfo (DER) of the certificate in a genesis or a rekey."""
    certificate = x509.load_der_x509_certificate(claim.certificates[0])
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _operator(sql: sqlite3.Connection, organisation: str, now_s: Callable[[], float]) -> Operator:
    return Operator(FileWorld(sql, CONTRACTS), organisation, now_s)


def _run(sql: sqlite3.Connection, script: str) -> None:
    """Statement by statement: executescript would end the transaction."""
    for statement in script.split(";"):
        sql.execute(statement)

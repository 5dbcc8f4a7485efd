"""Chaincode packages for contracts that run as a service: a name, and where this organisation's server is.

Pure bytes; opens nothing. The format is Fabric's: a tar.gz of ``metadata.json`` and ``code.tar.gz``, which holds
``connection.json``.

Rules
- The same contract at the same address is the same bytes, on every machine and every day: the package id is their
  digest, and is what organisations approve. So owners, modes, times and the order in the archives are fixed, and
  nothing is compressed: what compression gives may change with a library.
- A package carries no private key.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import struct
import tarfile
import zlib
from dataclasses import dataclass

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")  # as Fabric checks it
_DIAL_TIMEOUT = "10s"
_STORED_MOST = 0xFFFF  # bytes of a stored block, RFC 1951 section 3.2.4


@dataclass(frozen=True, slots=True)
class Server:
    """Where a contract is served.

    Attributes:
        address: ``host:port``, as the peer reaches it.
        tls_ca: PEM of the root of its certificate; empty: without TLS.
        client_certificate: whether it asks for the peer's certificate, which the builder adds where the peer runs.
    """

    address: str
    tls_ca: str = ""
    client_certificate: bool = False


def package(label: str, server: Server) -> bytes:
    """The package's bytes.

    Raises:
        ValueError: Fabric takes no such label.
    """
    if not _LABEL.fullmatch(label):
        raise ValueError(f"{label!r} is no label: letters, digits and _.+- after a letter or a digit")
    connection: dict[str, object] = {"address": server.address, "dial_timeout": _DIAL_TIMEOUT}
    connection["tls_required"] = bool(server.tls_ca)
    if server.tls_ca:
        connection["client_auth_required"] = server.client_certificate
        connection["root_cert"] = server.tls_ca
    code = _archive("connection.json", _json(connection))
    metadata = _json({"type": "ccaas", "label": label})
    return _archive("metadata.json", metadata, "code.tar.gz", code)


def package_id(content: bytes) -> str:
    """The package's id, as every peer computes it: label and digest.

    Raises:
        ValueError: it is no package.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(content)), mode="r:") as tar:
            metadata = tar.extractfile("metadata.json")
            label = json.loads(metadata.read())["label"] if metadata else None
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError):
        label = None
    if not isinstance(label, str):
        raise ValueError("is no chaincode package")
    return f"{label}:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _archive(*names_and_contents: str | bytes) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in zip(names_and_contents[::2], names_and_contents[1::2], strict=True):
            assert isinstance(name, str)
            assert isinstance(content, bytes)
            info = tarfile.TarInfo(name)  # time, owner and group are 0
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return _gzip(made.getvalue())


def _gzip(content: bytes) -> bytes:
    """RFC 1952, time 0, unknown system, the content in stored blocks."""
    blocks = [content[at : at + _STORED_MOST] for at in range(0, len(content), _STORED_MOST)] or [b""]
    stored = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks
    )
    head = b"\x1f\x8b\x08\0" + bytes(4) + b"\0\xff"
    return head + stored + struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF)

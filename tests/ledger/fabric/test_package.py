"""Packages are the same bytes for ever, and what Fabric's format says; the builder does what a peer expects."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.fabric import package as packages
from ledger.fabric.network import settings
from ledger.fabric.package import Server

BUILDER = Path(packages.__file__).parent / "network" / "builder"
LABELS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,30}", fullmatch=True)
SERVERS = st.builds(Server, st.text(max_size=60), st.text(max_size=3000), st.booleans())


def code_of(content: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        inner = tar.extractfile("code.tar.gz")
        assert inner is not None
        with tarfile.open(fileobj=inner) as code:
            connection = code.extractfile("connection.json")
            assert connection is not None
            return connection.read()


def test_the_id_of_a_package_never_changes() -> None:
    content = packages.package("registry", Server("127.0.0.1:9999", "PEM\n", client_certificate=True))
    assert packages.package_id(content) == ("registry:3eb349dcd504be030e7295d3a6b8dfafd60c23f2cdee1eee4fc631060b7ba743")


@given(LABELS, SERVERS)
@example("x", Server("a:1", "y" * 70_000))
def test_the_same_package_is_the_same_bytes_and_says_what_was_asked(label: str, server: Server) -> None:
    content = packages.package(label, server)
    assert content == packages.package(label, server)
    assert packages.package_id(content).startswith(f"{label}:")
    connection = json.loads(code_of(content))
    assert connection["address"] == server.address
    assert connection.get("root_cert", "") == server.tls_ca
    assert connection["tls_required"] == bool(server.tls_ca)
    assert "client_key" not in connection


@given(st.binary(max_size=200_000))
@example(b"")
@example(b"x" * 0xFFFF)
@example(b"x" * 0x10000)
def test_the_archive_is_one_that_others_read(content: bytes) -> None:
    assert gzip.decompress(packages._gzip(content)) == content


def test_another_address_is_another_package() -> None:
    one, other = (packages.package("registry", Server(f"127.0.0.1:{port}")) for port in (1, 2))
    assert packages.package_id(one) != packages.package_id(other)


@pytest.mark.parametrize("label", ["", "a b", "-a", "ä", "a/b"])
def test_a_label_that_fabric_does_not_take(label: str) -> None:
    with pytest.raises(ValueError, match="is no label"):
        packages.package(label, Server("127.0.0.1:1"))


@given(st.integers(0, 400), st.integers(0, 255))
def test_what_is_no_package_is_said_to_be_none_or_has_another_id(at: int, byte: int) -> None:
    content = packages.package("registry", Server("127.0.0.1:1"))
    spoilt = content[:at] + bytes([byte]) + content[at + 1 :]
    try:
        same = packages.package_id(spoilt) == packages.package_id(content)
    except ValueError:
        same = False
    assert same == (spoilt == content)


def test_what_is_cut_off_is_no_package() -> None:
    content = packages.package("registry", Server("127.0.0.1:1"))
    for cut in (0, 1, 20, 600, len(content) - 3000):
        with pytest.raises(ValueError, match="is no chaincode package"):
            packages.package_id(content[:cut])


@pytest.mark.parametrize(("kind", "status"), [("ccaas", 0), ("golang", 1)])
def test_the_builder_takes_contracts_as_a_service_alone(kind: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text(json.dumps({"type": kind, "label": "x"}))
    assert subprocess.run([BUILDER / "detect", tmp_path, tmp_path], check=False).returncode == status


@pytest.mark.parametrize("asks", [False, True])
def test_the_builder_adds_the_peers_certificate_where_the_server_asks_for_one(asks: bool, tmp_path: Path) -> None:
    for name in ("source", "output", "release"):
        (tmp_path / name).mkdir()
    connection = code_of(packages.package("x", Server("127.0.0.1:1", "ROOT\nCA\n", client_certificate=asks)))
    (tmp_path / "source" / "connection.json").write_bytes(connection)
    (tmp_path / "cert").write_text("CERT\nPEM\n")
    (tmp_path / "key").write_text("KEY\nPEM\n")
    environment = {
        "PATH": "/usr/bin:/bin",
        settings.CLIENT_CERTIFICATE: str(tmp_path / "cert"),
        settings.CLIENT_KEY: str(tmp_path / "key"),
    }
    subprocess.run([BUILDER / "build", tmp_path / "source", tmp_path, tmp_path / "output"], check=True)
    subprocess.run([BUILDER / "release", tmp_path / "output", tmp_path / "release"], check=True, env=environment)
    told = json.loads((tmp_path / "release" / "chaincode" / "server" / "connection.json").read_text())
    added = {"client_cert": "CERT\nPEM\n", "client_key": "KEY\nPEM\n"} if asks else {}
    assert told == {**json.loads(connection), **added}


def test_the_builder_refuses_a_package_that_says_no_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [BUILDER / "build", tmp_path, tmp_path, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no connection.json" in done.stderr

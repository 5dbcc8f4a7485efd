"""``aigeco keys``: the gateway's key. It is created here, on somebody's word, and nowhere else."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click

from edge.cli import where
from edge.cli.exits import Exit, Refused


@click.group("keys", short_help="Create the gateway's key.")
def command() -> None:
    """The gateway's key: created once, never silently, never overwritten."""


@command.command("create", short_help="Create the key that signs.")
@click.argument("uri", required=False)
@where.option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(uri: str | None, config_path: Path | None, as_json: bool) -> None:
    """Create the key that signs, at URI, such as file:keys/gateway.pem; without URI, where the configuration says.

    A relative path is relative to this folder; one from the configuration, to the configuration's folder.
    """
    from signer.keys import KeyProblem, create_key, key_id

    base, gateway = Path(), ""
    if uri is None:
        uri, base, gateway = _configured(where.find(config_path))
    try:
        identifier = key_id(create_key(uri, base).public_key).hex()
    except KeyProblem as problem:
        if not getattr(problem, "__notes__", ()):
            problem.add_note("try: a folder that is there and that you may write to")
        raise
    if as_json:
        print(json.dumps({"uri": uri, "key_id": identifier}))
        return
    print(f"created {uri}, key id {identifier}")
    print(f"next: {_next(uri, base, gateway or 'GATEWAY')}")


def _next(uri: str, base: Path, gateway: str) -> str:
    """What makes a certificate of the key; only a key in a file can be handed to another program."""
    scheme, _, location = uri.partition(":")
    words = f"have its certificate issued, with the common name gw-{gateway}"
    if scheme != "file":
        return words
    return f"{words}, from this request:\n  openssl req -new -key {base / location} -subj /CN=gw-{gateway}"


def _configured(path: Path) -> tuple[str, Path, str]:
    """Key URI, its base folder and the gateway id. The key is not there yet, so the file is not checked whole."""
    try:
        document = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path}: is no TOML: {error}", Exit.CONFIG, f"aigeco config check {path}") from None
    uri, gateway = _text(document, "key", "uri"), _text(document, "gateway", "id")
    if not uri:
        raise Refused(f"{path}: [key] uri: is missing", Exit.CONFIG, 'uri = "file:keys/gateway.pem" under [key]')
    return uri, path.parent, gateway


def _text(document: dict[str, object], section: str, name: str) -> str:
    table = document.get(section)
    value = table.get(name) if isinstance(table, dict) else None
    return value if isinstance(value, str) else ""

"""``aigeco completion``: what makes a shell complete the three commands; the shell then asks the commands themselves.

Rules
- Names of models are the catalogue's, names of meters the configuration's, ports those of this machine.
- Completing never fails and says nothing: what cannot be known completes to nothing.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from edge.cli import where

PROGRAMS = ("aigeco", "aigeco-sim", "aigeco-peer")
_PORTS = ("serial/by-id/*", "serial/by-path/*", "ttyUSB*", "ttyACM*", "ttyAMA*")


@click.command("completion", short_help="Print what makes a shell complete these commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion of aigeco, aigeco-sim and aigeco-peer for SHELL.

    bash: eval "$(aigeco completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, behind compinit; fish:
    aigeco completion fish > ~/.config/fish/conf.d/aigeco.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    for program in PROGRAMS:
        variable = f"_{program.replace('-', '_')}_COMPLETE".upper()
        print(found(click.Command(program), {}, program, variable).source())


def models(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models of the catalogue; files, where a path was begun."""
    from drivers.map import names

    if "/" in incomplete or incomplete.startswith("."):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in names() if name.startswith(incomplete)]


def meters(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Meters of the configuration."""
    try:
        named = context.params.get("config_path") or context.find_root().params.get("config_path")
        document = tomllib.loads(where.find(named).read_text())
        found = [(meter["name"], meter.get("model", "")) for bus in document["bus"] for meter in bus["meter"]]
        return [CompletionItem(name, help=model) for name, model in found if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001  a person at a prompt is no place for errors: the command itself says them
        return []


def ports(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Serial ports of this machine, names that stay before numbers; files, where there is none of this name."""
    found = [str(port) for pattern in _PORTS for port in sorted(Path("/dev").glob(pattern))]
    matching = [CompletionItem(port) for port in found if port.startswith(incomplete)]
    return matching or [CompletionItem(incomplete, type="file")]

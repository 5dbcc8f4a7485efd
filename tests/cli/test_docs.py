"""docs/commands.md names every command, option and exit code that there is."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edge.cli.exits import MEANING
from edge.cli.main import cli

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _commands(found, f"{path} {name}")


COMMANDS = dict(_commands(cli, "aigeco"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    _, found, rest = PAGE.partition(f"\n## `{name}`\n")
    assert found, f"no section on {name}"
    section = rest.partition("\n## ")[0]
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in section, f"{name} {parameter.opts[0]} is not documented"


def test_every_documented_command_exists() -> None:
    documented = {line.removeprefix("## `").removesuffix("`") for line in PAGE.splitlines() if line.startswith("## `")}
    assert documented == set(COMMANDS)


def test_every_exit_code_is_documented() -> None:
    for code, words in MEANING.items():
        assert f"| {int(code)} | {words} |" in PAGE

"""``python -m bench``: every measurement; ``python -m bench sign``: one. Each says what it takes with ``--help``."""

from __future__ import annotations

import importlib

import click

from bench import machine

SCRIPTS = (
    "sign",
    "decode",
    "store",
    "agent",
    "backlog",
    "start",
    "bus",
    "faults",
    "adversary",
    "network",
    "contracts",
    "settle",
    "community",
    "first",
    "ingestion",
)


class _Scripts(click.Group):
    """The scripts, imported when they are wanted: an unfinished one does not keep the others from running."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SCRIPTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SCRIPTS:
            return None
        found: click.Command = importlib.import_module(f"bench.{cmd_name}").command
        return found


@click.command(cls=_Scripts, invoke_without_command=True, help=__doc__)
@click.option("--markdown", is_flag=True, help="Tables for docs/performance.md.")
@click.pass_context
def main(context: click.Context, markdown: bool) -> None:
    click.echo(f"{machine.describe()}\n")
    if context.invoked_subcommand is None:
        for name in SCRIPTS:
            command = context.command.get_command(context, name)  # type: ignore[attr-defined]
            with command.make_context(name, [], parent=context) as inner:
                command.invoke(inner)


if __name__ == "__main__":
    main()

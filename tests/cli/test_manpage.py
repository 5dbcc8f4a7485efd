"""docs/man: what the man pages say is what ``--help`` says, and man can read them."""

import shutil
import subprocess

import click
import pytest

from edge.cli.manpage import leaves, page
from scripts.manpages import PROGRAMS, TOP, pages

GROFF = shutil.which("groff")
needs_groff = pytest.mark.skipif(GROFF is None, reason="groff is not installed")


def shown(text: str) -> str:
    """A page as man shows it, without any white space; nothing to complain about."""
    command = ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rHY=0", "-rLL=200n"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=60, check=True)
    assert done.stderr == b""
    return squeezed(done.stdout.decode())


def squeezed(text: str) -> str:
    return "".join(text.replace("\b", "").split())


@pytest.mark.parametrize("name", pages())
def test_the_pages_are_made_of_the_present_help(name: str) -> None:
    assert (TOP / "docs" / "man" / name).read_text() == pages()[name], "the text of --help has changed: make man"


@needs_groff
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_word_of_the_help_is_on_the_page(name: str) -> None:
    program, endings = PROGRAMS[name]
    found = shown((TOP / "docs" / "man" / f"{name}.1").read_text())
    commands = list(leaves(click.Context(program, info_name=name)))
    assert len(commands) > 1
    for context in commands:
        assert squeezed(context.command_path) in found
        assert squeezed(context.command.help or "") in found, context.command_path
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert squeezed(parameter.opts[0]) in found
                assert squeezed(parameter.help or "") in found, f"{context.command_path} {parameter.name}"
    for code, words in endings.items():
        assert f"{int(code)}{squeezed(words)}" in found


@needs_groff
def test_what_roff_takes_for_its_own_is_shown_as_it_is() -> None:
    odd = ". a 'quoted' \"word\", back\\slash \\fB, ~/home, 2^3, `so`, --dash - and 5 %"

    @click.command(help=f"First.\n\n{odd}")
    @click.option("--odd", help=odd)
    def command() -> None: ...

    program = click.Group("odd", commands={"one": command}, help="Odd things.")
    found = shown(page(program, "odd", "1", {0: odd}, ["other"]))
    assert found.count(squeezed(odd)) == 3

"""A man page of a click program, in man(7): the words of its ``--help``, and of that of each of its commands. Pure.

Rules
- One page a program, with all its commands: what belongs together is found by one search.
- Nothing is written here that ``--help`` does not say; no date, so that the same commands make the same page.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence

import click


def page(program: click.Group, name: str, version: str, endings: Mapping[int, str], others: Sequence[str]) -> str:
    """The page of a program.

    Args:
        program: its group of commands.
        name: as it is called.
        version: of the package.
        endings: exit code -> words.
        others: programs to see as well.
    """
    context = _context(program, name, None)
    first, *more = _paragraphs(program)
    lines = [
        f'.TH {name.upper()} 1 "" "AIGECO Edge {version}" "User commands"',
        *(".SH NAME", f"{_text(name)} \\- {_text(first.rstrip('.'))}"),
        *(".SH SYNOPSIS", *_synopsis(context)),
        *(".SH DESCRIPTION", _text(first), *(line for each in more for line in (".PP", _text(each)))),
        *(".SH OPTIONS", *_options(context)),
        ".SH COMMANDS",
        *(line for each in leaves(context) for line in _command(each)),
        ".SH EXIT STATUS",
        *(line for code, words in endings.items() for line in (".TP", f"\\fB{int(code)}\\fR", _text(words))),
        *(".SH SEE ALSO", ", ".join(f"\\fB{_text(other)}\\fR(1)" for other in others)),
    ]
    return "\n".join(lines) + "\n"


def leaves(context: click.Context) -> Iterator[click.Context]:
    """A context of each command of a group, those of groups in it included, in the order of ``--help``."""
    group = context.command
    if not isinstance(group, click.Group):
        yield context
        return
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield from leaves(_context(found, name, context))


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, parent=parent, info_name=name, **command.context_settings)


def _command(context: click.Context) -> Iterator[str]:
    yield f'.SS "{_text(context.command_path)}"'
    yield from _synopsis(context)
    for paragraph in _paragraphs(context.command):
        yield from (".PP", _text(paragraph))
    yield from _options(context)


def _synopsis(context: click.Context) -> Iterator[str]:
    pieces = " ".join(context.command.collect_usage_pieces(context))
    yield f"\\fB{_text(context.command_path)}\\fR {_text(pieces)}"


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        once = context.parent is not None and parameter.name == "help"  # it is the same for all
        if record is not None and not once and record[1]:
            yield from (".TP", f"\\fB{_text(record[0])}\\fR", _text(record[1]))


def _paragraphs(command: click.Command) -> list[str]:
    text = inspect.cleandoc(command.help or command.short_help or "")
    return [" ".join(paragraph.replace("\b", "").split()) for paragraph in text.split("\n\n")]


def _text(words: str) -> str:
    """Words as roff shows them: its own characters are escaped, and every dash can be copied into a shell."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    escaped = escaped.replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped

"""docs/simulator.md names every command, option, fault and key that there is, and its examples run."""

import re
from pathlib import Path

import click

from hw_sim.cli.main import COMMANDS, cli
from hw_sim.cli.meter import command as meter
from hw_sim.cli.month import command as month
from hw_sim.cli.record import command as record
from hw_sim.cli.replay import command as replay
from hw_sim.cli.site import command as site
from hw_sim.faults import KINDS
from hw_sim.running import Running
from hw_sim.sitefile import load

TOP = Path(__file__).parent.parent.parent
TEXT = (TOP / "docs" / "simulator.md").read_text()


def test_every_command_and_option_is_documented() -> None:
    for name in COMMANDS:
        assert f"`aigeco-sim {name}`" in TEXT
    for command in (meter, site, replay, record, month):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(f"`{name}" in TEXT for name in parameter.opts), parameter.opts


def test_every_documented_option_exists() -> None:
    known = {
        name
        for command in (meter, site, replay, record, month, cli)
        for parameter in command.params
        for name in parameter.opts
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) <= known | {"--help"}


def test_the_faults_of_the_table_are_those_that_there_are() -> None:
    table = TEXT[TEXT.index("### Faults") : TEXT.index("Several faults")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(KINDS)


def test_the_site_file_runs(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(example) == 1
    path = tmp_path / "community.toml"
    path.write_text(example[0])
    with Running(load(path)) as running:
        assert running.address("rs485") == str(tmp_path / "rs485")


def test_the_example_in_a_test_runs(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    (tmp_path / "community.toml").write_text(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)[0])
    exec(code.replace('Path("community.toml")', f'Path("{tmp_path}/community.toml")'), {})

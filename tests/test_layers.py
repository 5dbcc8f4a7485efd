"""The architecture as a test: who may import whom, and which library or mechanism lives in which one place.

Read from the syntax tree, so an import inside a function counts as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent

MAY_IMPORT = {
    "drivers": set(),
    "signer": {"drivers"},
    "uplink": {"signer"},
    "edge": {"drivers", "signer", "uplink"},
    "ledger": {"signer", "uplink"},
    "hw_sim": {"drivers", "signer", "uplink", "edge", "ledger"},
}
FROM_DRIVERS_IN_SIGNER = {"drivers.reading", "drivers.obis"}  # evidence knows what a Reading is, not how it was read

LIBRARY_PLACES = {
    "pymodbus": set(),  # docs/adr/0006; the tests and the benchmarks compare with it
    "paho": {"uplink/mqtt.py"},
    "sqlite3": {
        "edge/database.py",
        "ledger/embedded.py",
        "ledger/backup.py",
        "ledger/fabric/state.py",
        "ledger/schema.py",
        "ledger/world_file.py",
    },
    "tinydb": {"edge/site.py"},
    "cryptography": {"signer", "edge/identity.py", "ledger", "hw_sim/authority.py"},
    "grpc": {"ledger/fabric"},
    "google": {"ledger/fabric"},  # protobuf and the error details of gRPC
    "fabric_protos": {"ledger/fabric"},
}
THREADS_START_IN = {"edge/agent.py", "ledger/fabric/ingestion.py", "ledger/fabric/shim.py", "hw_sim/wire.py"}


def _files(package: str) -> list[Path]:
    return sorted((TOP / package).rglob("*.py"))


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            if node.module not in MAY_IMPORT:  # `from drivers import obis` takes a module of the layer, not all of it
                yield node.lineno, str(node.module)
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def _here(path: Path) -> str:
    return path.relative_to(TOP).as_posix()


def _within(path: Path, places: set[str]) -> bool:
    return any(_here(path) == place or _here(path).startswith(f"{place}/") for place in places)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_layer_imports_only_what_it_may(package: str) -> None:
    files = _files(package)
    assert files, f"{package}/ has no Python files"
    for path in files:
        for line, name in _imports(path):
            layer = name.split(".")[0]
            if layer in MAY_IMPORT and layer != package:
                assert layer in MAY_IMPORT[package], f"{_here(path)}:{line} imports {name}"


def test_the_signer_knows_only_the_reading() -> None:
    for path in _files("signer"):
        for line, name in _imports(path):
            if name.startswith("drivers"):
                assert any(name == ok or name.startswith(f"{ok}.") for ok in FROM_DRIVERS_IN_SIGNER), (
                    f"{_here(path)}:{line} imports {name}"
                )


@pytest.mark.parametrize("library", LIBRARY_PLACES)
def test_a_library_is_imported_in_its_one_place(library: str) -> None:
    for package in MAY_IMPORT:
        for path in _files(package):
            for line, name in _imports(path):
                if name.split(".")[0] == library:
                    assert _within(path, LIBRARY_PLACES[library]), f"{_here(path)}:{line} imports {name}"


def test_threads_are_started_in_four_files_only() -> None:
    starters = {"Thread", "Timer", "ThreadPoolExecutor", "start_new_thread", "ThreadingMixIn", "ThreadingTCPServer"}
    for package in MAY_IMPORT:
        for path in _files(package):
            for node in _nodes(path):
                word = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
                if word in starters:
                    assert _within(path, THREADS_START_IN), f"{_here(path)}:{node.lineno} starts threads"


def test_nobody_imports_the_simulator() -> None:
    for package in MAY_IMPORT:
        if package != "hw_sim":
            assert all("hw_sim" not in name.split(".") for path in _files(package) for _, name in _imports(path))


def test_one_place_finds_the_simulator_by_its_name() -> None:
    """An import by name escapes the syntax tree's imports, so strings count here (docs/adr/0003)."""
    places = set()
    for package in MAY_IMPORT:
        for path in _files(package) if package != "hw_sim" else ():
            for node in _nodes(path):
                if isinstance(node, ast.Constant) and str(node.value).split(".")[0] == "hw_sim":
                    places.add(f"{_here(path)}: {node.value}")
    assert places == {"edge/cli/mapcheck.py: hw_sim.readback"}


def test_only_the_chain_asks_for_randomness_and_only_the_host_for_the_clock() -> None:
    """Pure cores take time and salt as arguments: a wall clock or a random number inside one makes it untestable."""
    pure = ["drivers/map.py", "drivers/plan.py", "drivers/decode.py", "drivers/schedule.py", "drivers/sunspec.py"]
    pure += ["signer/statement.py", "signer/merkle.py", "signer/batch.py", "signer/receipt.py"]
    for path in [*(TOP / name for name in pure), *_files("ledger/rules")]:
        for line, module in _imports(path):
            assert module.split(".")[0] not in {"time", "random", "secrets", "os", "socket", "threading"}, (
                f"{_here(path)}:{line}"
            )


def test_the_commands_start_without_the_libraries_of_fabric() -> None:
    """They are an extra: a gateway, and a peer on the embedded ledger, do without."""
    code = (
        "import sys, edge.cli.main, ledger.cli.main, hw_sim.cli.main\n"
        "found = {'grpc', 'google.protobuf', 'fabric_protos'} & set(sys.modules)\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=TOP, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_what_every_endorser_computes_has_no_floats_and_no_order_of_sets() -> None:
    for path in _files("ledger/rules"):
        for node in _nodes(path):
            place = f"{_here(path)}:{getattr(node, 'lineno', 0)}"
            assert not isinstance(node, ast.BinOp | ast.AugAssign) or not isinstance(node.op, ast.Div), place
            assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), place
            assert not (isinstance(node, ast.Name) and node.id == "float"), place
            looped = node.iter if isinstance(node, ast.For | ast.comprehension) else None
            assert not isinstance(looped, ast.Set | ast.SetComp), place

"""The beginning of a new map: every key with what it is for, or a relative's map without what is not true of this one.

Rules
- Never overwrites a file, and never claims anything about a meter that nobody has looked up.
- A fresh file is wrong on purpose: ``aigeco maps check`` lists what is to be filled in.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge.cli.exits import Exit, Refused

_STARTER = """\
# {name}: what this device is, in a sentence; then what its manual does not say and where sources disagree.
# docs/catalogue.md explains every key. Remove what you do not need, and check with: aigeco maps check {file}
manufacturer = ""
model = ""
kind = ""  # meter, inverter, or both
phases = 0  # 1 to 3
sources = []  # manual with version and page, or a project and file that read this model
cross_checked = false  # true when two independent sources agree on total energy and total power

# If none of its total energies may be used for a settlement:
# settlement = false
# settlement_reason = "its only energy counter can be reset"

# How it leaves the factory. Remove what it does not have.
[serial]
baud = 0
parity = ""  # N, E or O
stopbits = 0
unit = 1
verified = false  # true when a source states these

[tcp]
port = 502
unit = 1

# A register that tells the model, so that a wrong map is noticed before it is believed.
# [identify]
# table = "input"
# address = 11
# type = "u16"
# expected = [71, 72]

# [identify.serial_number]
# table = "holding"
# address = 0x5000
# type = "ascii"
# count = 7

# What has to be set at the device before its values are right. Shown and looked at, never written.
# [[precondition]]
# words = "measurement mode B, or it counts energy in one direction only"
# table = "holding"
# address = 0x1103
# type = "u16"
# expected = [1]

[limits]
max_registers = 125  # of one request; the manual says fewer for many meters
# max_gap = 0  # longest hole it reads through
# even_only = true
# functions_equivalent = true  # functions 3 and 4 read the same
# forbidden = [[31, 48]]
# barriers = [80]  # a new request begins here
# min_delay_ms = 100
# connect_delay_ms = 1000
# timeout_ms = 500

# What holds for every register that does not say otherwise.
[defaults]
table = "input"  # input: function 4; holding: function 3
type = "f32"  # u16 s16 u32 s32 u64 s64 f32 f64
word_order = "big"  # little: the low word comes first

# Raw patterns that mean "no value".
# [not_available]
# s32 = 0x7FFFFFFF
# u64 = "0xFFFFFFFFFFFFFFFF"

# Addresses are 0-based: a manual's 30001 or 40001 is 0. `scale` is what one step is in V, A, W, Wh ...
[[register]]
quantity = "voltage"
# address = {{ L1 = 0, L2 = 2, L3 = 4 }}

[[register]]
quantity = "active_power"  # import positive: a negative scale where the device counts exporting as positive
# address = 52

[[register]]
quantity = "active_energy_import"
# address = 72
scale = 1000  # it counts in kWh
billing = true  # the total that a settlement uses

[[register]]
quantity = "active_energy_export"
# address = 74
scale = 1000
billing = true
"""

# What stands before the first table of a map and is true of that map alone.
_OWN = {"model": '""', "sources": "[]", "cross_checked": "false"}


def write(path: Path, model: str | None) -> None:
    """Write a new file, from the map ``model`` or as an empty form.

    Raises:
        MapError: there is no such map, or the file's name is none for a map.
        Refused: there is a file already.
    """
    from drivers.map import check_name, load

    check_name(path)
    text = _STARTER.format(name=path.stem, file=path) if model is None else _relative(load(model).data.decode(), model)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        advice = f"another name, or aigeco maps check {path}"
        raise Refused(f"{path}: is there already, and nothing is overwritten", Exit.USAGE, advice) from None
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}", Exit.USAGE, "another folder, or make this one") from None


def _relative(text: str, model: str) -> str:
    head, bracket, rest = text.partition("\n[")
    for key, nothing in _OWN.items():
        head = re.sub(rf"^{key} = (\[\n.*?^\]|[^\n]*)", f"{key} = {nothing}", head, flags=re.MULTILINE | re.DOTALL)
    remark = f"# Begun as a copy of {model}: all of it, the comments too, is about that model until it is looked up.\n"
    return remark + head + bracket + rest.replace("\nverified = true", "\nverified = false")

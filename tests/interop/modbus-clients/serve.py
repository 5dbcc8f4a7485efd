"""Simulated devices for clients that are not ours: one line of JSON says where they are and what they measure.

    python serve.py FOLDER

Runs in the project's own environment, until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from drivers.obis import BY_KEY
from hw_sim.running import Running
from hw_sim.sitefile import load

SITE = """
seed = 1
[time]
start = 2026-06-24T10:00:00Z
speed = 0.001                     # a second of the site in a quarter of an hour: the numbers stand still

[[home]]
name = "home"
pv_kwp = 5.0
pv_phases = 3

[[line]]
name = "net"
tcp = "127.0.0.1:0"
[[line.device]]
name = "inverter"
model = "sunspec_generic"
unit = 1
role = "pv"
models = [103, 160]
[[line.device]]
name = "meter"
model = "sunspec_generic"
unit = 2
role = "grid"
models = [203]
[[line.device]]
name = "plain"
model = "eastron_sdm630"
unit = 3
role = "grid"

[[line]]
name = "line"
pty = "line"
baud = 19200
[[line.device]]
name = "inverter-on-line"
model = "sunspec_generic"
unit = 1
role = "pv"
models = [103]
[[line.device]]
name = "plain-on-line"
model = "eastron_sdm630"
unit = 3
role = "grid"
"""


def main(folder: Path) -> None:
    path = folder / "site.toml"
    path.write_text(SITE)
    site = load(path)
    with Running(site) as running:
        home = running.homes["home"]
        found = {
            role: {
                f"{BY_KEY[key].name} {BY_KEY[key].phase}": value / 1e6
                for key, value in home.quantities(role, site.start_ms).items()
            }
            for role in ("pv", "grid")
        }
        host, _, port = running.address("net").rpartition(":")
        print(json.dumps({"host": host, "port": int(port), "line": running.address("line"), **found}), flush=True)
        sys.stdin.read()
        running.check()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

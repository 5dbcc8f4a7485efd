"""The gateway's own process, ``python -m edge.process FILE``: what ``aigeco run`` becomes once its arguments are read.

Imports what the agent needs and nothing else: a process keeps what it has imported for as long as it runs, and the
command line alone is 3.5 MB. Knows no option; edge.cli.run does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge.cli.exits import Exit, code_of, say


def main() -> int:
    """Be the gateway until told to stop; the exit code."""
    try:
        from edge import agent, config  # it takes a moment, in which somebody may have thought better of it

        found = config.load(Path(sys.argv[1]))
        try:
            return agent.run(found)
        except config.ConfigError as error:  # the file is right, so it is the key or its certificate
            say(error)
            return Exit.KEY
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:
        code = code_of(error)
        if code is None:
            raise
        say(error)
        return code


if __name__ == "__main__":
    sys.exit(main())

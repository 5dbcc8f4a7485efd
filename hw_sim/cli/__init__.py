"""The ``aigeco-sim`` command."""

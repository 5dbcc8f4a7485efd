"""The broker for the tests of this folder."""

from tests.broker import broker

__all__ = ["broker"]

"""How a trace says times, registers and register words to people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from signer.codes import Kind
from signer.statement import Claims

_WORDS_SHOWN = 8


def at(time_ms: int) -> str:
    """An instant, UTC, to the minute or as exact as it is."""
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    exact = "%Y-%m-%d %H:%MZ" if time_ms % 60_000 == 0 else "%Y-%m-%d %H:%M:%SZ"
    return moment.strftime(exact)


def wh(number: int | None) -> str:
    """Energy."""
    return "open" if number is None else f"{number:,} Wh"


def register(value: Any) -> str:
    """A register as a record has it: mantissa and power of ten, of Wh."""
    if value is None:
        return "not read"
    mantissa, exponent = value
    if exponent >= 0:
        return f"{mantissa * 10**exponent:,} Wh"
    whole, rest = divmod(abs(mantissa), 10**-exponent)
    return f"{'-' if mantissa < 0 else ''}{whole:,}.{rest:0{-exponent}} Wh"


def kind(claims: Claims) -> str:
    """What a statement says."""
    return Kind(claims.kind).name.lower() if claims.known else f"kind {claims.kind}"


def words_of(claims: Claims) -> Iterator[str]:
    """The register words that a reading was made from, a line for each block; the first ones of a long one."""
    for block in claims.blocks:
        data = block.words
        words = [data[place : place + 2].hex() for place in range(0, len(data), 2)]
        more = f" and {len(words) - _WORDS_SHOWN} more" if len(words) > _WORDS_SHOWN else ""
        shown = " ".join(words[:_WORDS_SHOWN])
        yield f"function {block.function} from {block.address}: {shown}{more}"

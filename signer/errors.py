"""The one exception that a parser of this folder lets out.

Rules
- Whatever bytes come in, a parser answers with a value or with :class:`Malformed`; nothing else.
- Whose move: the sender's. Waiting never helps: the same bytes stay malformed.
"""

from __future__ import annotations


class Malformed(ValueError):
    """Bytes that are not what the format says.

    Attributes:
        place: where in the structure, e.g. ``statement, field 11, 1.8.0``.
        reason: what is wrong there, with the value.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


def show(item: object) -> str:
    """A decoded item in a few words, in the notation of CBOR (RFC 8949 section 8), never longer than a line."""
    if isinstance(item, bytes):
        return f"h'{item[:8].hex()}{'...' if len(item) > 8 else ''}' ({len(item)} bytes)"
    if isinstance(item, list):
        return f"an array of {len(item)}"
    if isinstance(item, dict):
        return f"a map of {len(item)}"
    if item is None or isinstance(item, bool):
        return {None: "null", True: "true", False: "false"}[item]
    text = ascii(item)
    return text if len(text) <= 60 else f"{text[:57]}..."

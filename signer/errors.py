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

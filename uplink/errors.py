"""What can go wrong between here and the broker, one class for each "whose move is it?".

Rules
- ``waiting_helps`` says whether trying again later, with nothing changed, can succeed.
- The message carries the broker's address and the value that was refused; advice is a note, printed as ``try: ...``.
"""

from __future__ import annotations

from typing import ClassVar, Self


class Unreachable(Exception):
    """Nothing could be delivered to the broker."""

    waiting_helps: ClassVar[bool] = False

    def advise(self, advice: str) -> Self:
        """The same error with a note ``try: ...``."""
        self.add_note(f"try: {advice}")
        return self


class BrokerAway(Unreachable):
    """Nobody answers, or the connection broke: the network's or the broker's move."""

    waiting_helps = True


class BrokerUntrusted(Unreachable):
    """The broker's certificate does not prove who it is: the move of whoever runs the broker or chose the CA."""


class BrokerMistaken(BrokerUntrusted):
    """Its certificate is for another name, or of another CA, than our settings say: our operator's move."""


class IdentityUnusable(Unreachable):
    """Our own CA, certificate or key file cannot be used: our operator's move."""


class NotAdmitted(Unreachable):
    """The broker knows us and turns us away (certificate, client id, protocol): the broker operator's move."""


class TopicDenied(Unreachable):
    """The broker's access list refuses a topic: the broker operator's move."""


class TakenOver(Unreachable):
    """Another client connected under our client id: a second process, or a cloned device."""


class TooLarge(Unreachable):
    """The message exceeds what the broker accepts: the broker operator's move."""


class NobodyListens(Unreachable):
    """The broker accepted the message and had nobody to give it to: the organisations' move."""

    waiting_helps = True

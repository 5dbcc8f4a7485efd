"""How long things take on a serial line (Modbus over Serial Line V1.02, 2.5.1).

Pure arithmetic on seconds; a pty carries bytes in no time at all, so a simulated line must wait itself.
"""

from __future__ import annotations

from dataclasses import dataclass

# 2.5.1.1: above 19200 baud the silence between frames is fixed, because a processor can't be asked for less.
_FIXED_SILENCE_ABOVE_BAUD = 19200
_FIXED_SILENCE_S = 0.00175


@dataclass(frozen=True, slots=True)
class LineTiming:
    """The pace of one line.

    Attributes:
        baud: bits a second.
        parity: ``N``, ``E`` or ``O``.
        stopbits: 1 or 2.
    """

    baud: int
    parity: str = "N"
    stopbits: int = 1

    @property
    def char_s(self) -> float:
        """Time of one character: start bit, eight data bits, parity, stop bits."""
        return (9 + (self.parity != "N") + self.stopbits) / self.baud

    @property
    def silence_s(self) -> float:
        """The pause that ends a frame: 3.5 characters."""
        return _FIXED_SILENCE_S if self.baud > _FIXED_SILENCE_ABOVE_BAUD else 3.5 * self.char_s

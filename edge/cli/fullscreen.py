"""A terminal that shows pictures: another screen, no cursor, keys at once, and all as before at the end.

Rules
- Nothing stays changed: not after an error, a signal to end, or while the program is stopped with Ctrl-Z.
- Waiting for a key ends early when the window's size changed, so that the next picture fits.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_KEYS = {
    b" ": "page down",
    b"\x1b[6~": "page down",
    b"b": "page up",
    b"\x1b[5~": "page up",
    b"j": "down",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"k": "up",
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"q": "quit",
    b"?": "help",
    b"h": "help",
}
_ENDS = (signal.SIGTERM, signal.SIGHUP)


class Screen:
    """Standard output as a screen; keys come from standard input where that is a terminal too.

    Attributes:
        keys: whether keys are read.
    """

    def __init__(self) -> None:
        self.keys = sys.stdin is not None and sys.stdin.isatty()
        self._before: list[Any] | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        handlers = {signal.SIGWINCH: lambda *_: None, signal.SIGTSTP: self._stop, **dict.fromkeys(_ENDS, _end)}
        self._handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows, now."""
        try:
            found = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24
        return (found.columns or 80), (found.lines or 24)

    def draw(self, lines: Sequence[str]) -> None:
        """Show a picture in place of the last one."""
        _write("\x1b[H" + "\r\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J")

    def wait(self, seconds: float) -> str:
        """The key that was pressed within this time; empty: none, or the window has another size."""
        watched = [self._woken, *([sys.stdin.fileno()] if self.keys else [])]
        ready = select.select(watched, [], [], max(0.0, seconds))[0]
        if self._woken in ready:
            os.read(self._woken, 4096)
        if not self.keys or sys.stdin.fileno() not in ready:
            return ""
        pressed = os.read(sys.stdin.fileno(), 64)
        if not pressed:  # the terminal is gone
            raise KeyboardInterrupt
        return _KEYS.get(pressed, _KEYS.get(pressed[:1], ""))

    def _begin(self) -> None:
        if self.keys:
            self._before = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        _write(_ENTER)

    def _finish(self) -> None:
        try:
            _write(_LEAVE)
            if self._before is not None:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)
        except (OSError, termios.error):
            pass  # the terminal is gone: there is nothing to put back

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: leave the terminal to the shell until we go on."""
        self._finish()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTSTP])
        signal.signal(signal.SIGTSTP, self._stop)
        self._begin()


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""One line that says what is waited for."""

import sys
from typing import TextIO


class WaitingLine:
    """Say what is waited for: again and again in one line of a terminal, elsewhere once each."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._said = ""

    def __call__(self, what: str, idle: float) -> None:
        """Say that ``what`` is waited for, and that nothing has changed for ``idle`` seconds."""
        if self._stream.isatty():
            self._stream.write(f"\r  waiting for {what}; last changed {idle:.0f} s ago\x1b[K\r")
        elif what != self._said:
            self._stream.write(f"waiting for {what}\n")
        self._said = what
        self._stream.flush()

"""How a process ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass

_LARGEST_PLAIN_CODE = 255  # beyond it stand Windows' NTSTATUS values, which people know in hexadecimal


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """The word of the kernel: an exit code, or the signal that ended it; never both."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def from_returncode(cls, returncode: int) -> ExitStatus:
        """From the convention of `subprocess`, in which a signal is a negative number."""
        return cls(signal=-returncode) if returncode < 0 else cls(code=returncode)

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {_signal_name(self.signal)}"
        if self.code is None:
            return "ended for an unknown reason"
        return f"exit code {self.code if self.code <= _LARGEST_PLAIN_CODE else f'0x{self.code:08X}'}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

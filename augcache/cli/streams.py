"""stdout and stderr as a command line needs them: no state of theirs is the cause of a traceback, or of a lost file."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from augcache.errors import AugcacheError


def open_streams() -> None:
    """Make stdout and stderr safe to write any text to, whatever they are connected with."""
    # Closed by the caller, as by '>&-': the next file that is opened, such as a store's, would take the number and get
    # what is printed. Opened the wrong way round, each still fails as a closed one does.
    for number, wrong in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, wrong)  # takes the lowest number that is free: this one
    sys.stdout = _Stream(1, sys.stdout, must=True)
    sys.stderr = _Stream(2, sys.stderr, must=False)


class _Stream(io.TextIOWrapper):
    """Writes what its encoding lacks as escapes; a reader that has gone, as `head` does, stops no work.

    Parameters
    ----------
    number : int
        Of the open file.
    old : text stream or None
        What stood there before.
    must : bool
        Whether what cannot be written is an error; else it is dropped.
    """

    def __init__(self, number: int, old: TextIO | None, *, must: bool) -> None:
        buffer = getattr(old, "buffer", None) or open(number, "wb", closefd=False)  # noqa: SIM115  # kept open
        super().__init__(
            buffer,
            encoding=getattr(old, "encoding", None) or "utf-8",
            errors="backslashreplace",
            line_buffering=not must or os.isatty(number),
        )
        self.number, self.must = number, must

    def write(self, text: str) -> int:
        """Write, and go on where that cannot be."""
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Write what has gathered."""
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Send what is left, and what may come, nowhere."""
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, self.number)
        os.close(devnull)
        if self.must and not isinstance(error, BrokenPipeError):
            raise AugcacheError(f"stdout cannot be written ({error.strerror}); what it was to hold is lost") from error

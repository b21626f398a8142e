"""Exit codes of the command line, and the one way in which it says something."""

from __future__ import annotations

import sys

from augcache.text import printable

OK, ERROR, USAGE, BUG, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130


def say(text: str) -> None:
    """Print a message on stderr, in one line."""
    print(printable(text), file=sys.stderr)

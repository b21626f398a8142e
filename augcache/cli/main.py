"""Where the command line starts: the one place where errors become messages and exit codes.

It imports no more than it must, so that a library that is missing or broken is an error like any other.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from augcache.cli import streams
from augcache.cli.exit_codes import BUG, ERROR, INTERRUPTED, OK, USAGE, say
from augcache.errors import AugcacheError, SourceWarning
from augcache.extras import broken_import

if TYPE_CHECKING:
    import click

# What a machine may be short of, in a call that names no file.
_SHORT = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    streams.open_streams()
    _leave_script_folder()
    # Batch systems stop a job so. Not the handler of SIGINT: a shell has it ignored in what it starts with '&'.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_run())


def _leave_script_folder() -> None:
    """Look for modules where they are installed alone, here and in the processes that are started from here.

    What lies in the current folder, beside a stranger's store, must not run because it is called cv2.py.
    """
    script = os.path.dirname(os.path.realpath(sys.argv[0]))
    if not sys.flags.safe_path and sys.path[:1] in ([""], [script]):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"


def _run() -> int:
    warnings.showwarning = partial(_show_warning, warnings.showwarning)
    try:
        code = _command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except AugcacheError as error:
        say(f"augcache: {error}")
        return ERROR
    except MemoryError:
        say("augcache: not enough memory; close other programs, or work on fewer images at a time (--workers)")
        return ERROR
    except Exception as error:  # noqa: BLE001  # the boundary: whatever is left is a bug, and says so
        told = broken_import(error) or _of_the_system(error)
        if told is None:
            traceback.print_exc()
            say("augcache: this is a bug; please report it with the lines above")
            return BUG
        say(f"augcache: {told}")
        return ERROR
    return code


def _show_warning(
    otherwise: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any, **more: Any
) -> None:
    """Say a warning of ours as every message; those of libraries come with the line that they are from."""
    if issubclass(category, SourceWarning):
        say(f"augcache: {message}")
    else:
        otherwise(message, category, *where, **more)


def _command() -> int:
    import click

    from augcache.cli.commands import cli

    try:
        return int(cli(prog_name="augcache", standalone_mode=False) or OK)
    except click.UsageError as error:
        _show_usage(error)
        return USAGE
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        raise AugcacheError(error.format_message()) from error


def _show_usage(error: click.UsageError) -> None:
    if error.ctx is not None:
        print(error.ctx.get_usage(), file=sys.stderr)
        print(f"Try '{error.ctx.command_path} -h' for help.\n", file=sys.stderr)
    say(f"Error: {error.format_message()}")


def _of_the_system(error: Exception) -> str | None:
    """Say what the file system or the machine refused; None for anything else."""
    if not isinstance(error, OSError) or not (error.filename or error.errno in _SHORT):
        return None
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{where}{error.strerror or error}; check the path, its owner and the disk, and run the same command again"

"""How far a running build has come, for `augcache info` in another terminal: a note beside the data of its store."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from augcache.progress import Progress
from augcache.storage.checked import read_plain
from augcache.text import duration_text, pace_text

FILE = "running.json"


def counts_of(now: Progress) -> dict[str, int]:
    """Return the four counts by their names."""
    return {"total": now.total, "computed": now.computed, "reused": now.reused, "failed": now.failed}


def running(store: Path) -> dict[str, Any] | None:
    """Return how far the build that writes to a store has come, or None where none does.

    Returns
    -------
    dict
        `recipe` (name), `digest`, `host`, `pid`, `seconds` (since its start), `total`, `computed`, `reused`, `failed`,
        `age` (seconds since it said so), and `alive`: False where it was killed, and the counts are its last.
    """
    path = store / FILE
    try:
        raw = json.loads(read_plain(path, 4096))
        age = time.time() - path.stat().st_mtime
        texts = {name: raw[name] for name in ("recipe", "digest", "host")}
        numbers = {name: raw[name] for name in ("pid", "seconds", *counts_of(Progress(0)))}
        if not all(text.isprintable() for text in texts.values()) or not all(map(is_number, numbers.values())):
            return None
        known = texts | numbers
        alive = known["host"] != platform.node() or _is_alive(int(known["pid"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # a note for people: without it there is less to say, and nothing wrong
    return {**known, "age": round(max(0.0, age), 1), "alive": alive}


def running_text(now: dict[str, Any]) -> str:
    """Say what `running` found in one line."""
    done = now["computed"] + now["reused"] + now["failed"]
    parts = [f"{now['recipe']}, {done} of {now['total']} done"]
    if now["alive"]:
        parts.append(pace_text(now["computed"] + now["failed"], now["total"] - done, now["seconds"]))
    parts.append(f"{now['failed']} failed" if now["failed"] else "")
    told = ", ".join(part for part in parts if part)
    where = f"process {now['pid']} on {now['host']}"
    if now["alive"]:
        return f"{told} ({where}, {duration_text(now['age'])} ago)"
    return f"stopped: {told} ({where} was killed {duration_text(now['age'])} ago); run the same command again to go on"


def is_number(value: Any) -> bool:
    """Whether a value that a file gives is a number that can be counted or timed with."""
    return isinstance(value, int | float) and 0 <= value < 1 << 62


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's process
    return True


def announce(folder: Path, note: dict[str, Any]) -> None:
    """Put the file in place at once, so that nobody reads half of it."""
    aside = folder / f".{FILE}"
    with contextlib.suppress(OSError):  # a note for people must not stop a build
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        # O_EXCL follows no link that somebody has put there.
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(file, "w") as out:
            json.dump(note, out)
        aside.replace(folder / FILE)

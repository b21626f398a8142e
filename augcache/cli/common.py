"""What the commands share: exit codes, options, printing, and running under a progress display."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from augcache.building.build_report import Report
from augcache.building.engines import BACKENDS, RENAMED
from augcache.cli.exit_codes import INTERRUPTED, OK, SOME_FAILED, say, show
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.sources.items import has_length
from augcache.text import date_text, duration_text, pace_text, printable, short_path, size_text
from augcache.whole_file import replaceable

Command = Callable[..., Any]


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Make one decorator of several."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


class _Path(click.Path):
    """A path; an empty one is a variable that is not set, and would stand for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not os.fspath(value):
            self.fail("the path is empty; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


class _Backend(click.Choice):  # type: ignore[type-arg]  # before click 8.2 it cannot be given one
    """The name of a backend."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in RENAMED:
            self.fail(f"{value}: {RENAMED[value]}", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(readable=False)  # what cannot be read is told by who reads it

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress.")
store_argument = click.argument("store", type=PATH)  # a path, so that a shell can complete it


def _shard(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise click.BadParameter(f"{text}: give I/N with I from 1 to N, such as 1/16 ... 16/16")
    return int(match[1]), int(match[2])


timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="An image that takes longer in a worker is a failure.  [default: any time]",
)
max_pixels_option = click.option(
    "--max-pixels", type=click.IntRange(min=1), metavar="N", help="List larger images as failures.  [default: 2^28]"
)
running = stacked(
    click.option("--store", type=PATH, help="Store to write.  [default: $AUGCACHE_STORE, or SRC.augcache]"),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        envvar="AUGCACHE_WORKERS",
        help="Worker processes; 0 works in this one.  [default: $AUGCACHE_WORKERS, or all cores]",
    ),
    click.option(
        "--backend",
        type=_Backend(BACKENDS),
        default="local",
        show_default=True,
        help="Where the workers are: processes of this machine (local), or a cluster.",
    ),
    click.option(
        "--scheduler", metavar="ADDR", help="Of Dask: tcp://HOST:8786; of Ray: auto, HOST:6379 or ray://HOST:10001."
    ),
    click.option(
        "--shard", metavar="I/N", callback=_shard, help="Only the I-th of N shares, by a hash of the names; I from 1."
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first N items, by name."),
    click.option(
        "--level", type=click.IntRange(0, 22), default=9, show_default=True, help="zstd level of what is stored."
    ),
    click.option("--quiet", is_flag=True, help="No progress, no summary."),
    json_option,
)


def _start(recipe: Recipe, backend: str) -> str:
    """Say what a run waits for before its first result."""
    if recipe.name == "saliencycut" and backend == "local":  # of a cluster's machines nothing is known
        from augcache.transforms.saliencycut.compute import is_compiled

        if not is_compiled(recipe.params["method"]):
            return "starting (first run: compiles, 30 s)"
    return "starting"


def run_build(
    run: Callable[..., Report],
    items: Any,
    recipe: Recipe,
    path: Path,
    *,
    quiet: bool,
    as_json: bool,
    backend: str,
    **options: Any,
) -> int:
    """Run a build of any kind under a progress display, and print its report."""
    from augcache.cli import console  # rich, only where something runs

    latest = Progress(len(items) if has_length(items) else 0)
    start = "" if quiet else _start(recipe, backend)
    try:
        with console.show(recipe.name, quiet=quiet, start=start) as progress:

            def watch(counts: Progress) -> None:
                nonlocal latest
                latest = counts
                progress(counts)

            report = run(items, recipe, path, progress=watch, backend=backend, **options)
    except KeyboardInterrupt:
        say(
            f"interrupted: {latest.done} of {latest.total} are finished and kept in {short_path(path)}; "
            "run the same command again to go on"
        )
        return INTERRUPTED
    if as_json or quiet or not sys.stdout.isatty():
        print_result(report, as_json)  # on a terminal the summary says the same
    for line in () if quiet else summary(report):
        say(line)
    return SOME_FAILED if report.failed else OK


def summary(report: Report) -> list[str]:
    """Say in two or three lines what was done and what can be done next."""
    store, pace = short_path(report.store), pace_text(report.computed, 0, report.seconds)
    lines = [
        f"{report.computed} computed, {report.reused} reused, {report.failed} failed in "
        f"{duration_text(report.seconds)}{pace and ', '}{pace}"
    ]
    if report.computed:
        lines.append("Of that: " + ", ".join(f"{name} {duration_text(took)}" for name, took in report.times.items()))
    if report.failed:
        lines.append(f"Why they failed: augcache failures {store}")
    if report.computed + report.reused:
        lines.append(f"Look at it: augcache report {store} -o report.html")
    return lines


def watched(what: str, run: Callable[..., Any], *arguments: Any, quiet: bool, **options: Any) -> Any:
    """Run something that reports its progress."""
    from augcache.cli import console  # rich, only where something runs

    with console.show(what, quiet=quiet) as progress:
        return run(*arguments, progress=progress, **options)


def tell(*cells: str) -> None:
    """Print one line of data on stdout, with tabs between its cells; nothing in them can forge another."""
    print("\t".join(map(printable, cells)))


def tell_json(values: Any) -> None:
    """Print JSON on stdout; a number that JSON lacks, which only a stranger's store holds, becomes null."""
    print(json.dumps(json.loads(json.dumps(values), parse_constant=lambda _: None), indent=2))


def tell_file(path: str) -> None:
    """Print the name of a file that was written, unless it is stdout or the like, which has the data already."""
    if os.path.isfile(path) and replaceable(path) is not None:
        tell(path)


def print_result(result: Any, as_json: bool) -> None:
    """Print a dataclass on stdout."""
    values = dataclasses.asdict(result)
    if as_json:
        tell_json(values)
        return
    for name, value in values.items():
        rows = value if isinstance(value, list) else None
        show(f"{name}: {_text(name, value) if rows is None else ''}".rstrip(), sys.stdout)
        for row in rows or ():
            for number, (key, entry) in enumerate(row.items()):
                show(f"  {' ' if number else '-'} {key}: {_text(key, entry)}", sys.stdout)


def look_here() -> None:
    """Find modules of the current folder, too, after those that are installed; for code that the user has named."""
    sys.path.append(os.getcwd())


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(key, entry)}" for key, entry in value.items())
    if name == "created" and isinstance(value, int):
        return date_text(value)
    if name == "bytes":
        return f"{value} ({size_text(value)})"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class _ToStderr(logging.Handler):
    """Log lines as messages, on the stderr of the moment, so a live bar stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _log(_context: click.Context, _option: click.Parameter, count: int) -> None:
    if count:
        logger, handler = logging.getLogger("augcache"), _ToStderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.handlers[:] = [handler]
        logger.setLevel(logging.INFO if count == 1 else logging.DEBUG)


verbose_option = click.option(
    "-v",
    "--verbose",
    count=True,
    expose_value=False,
    callback=_log,
    help="Log what is done on stderr; -vv each commit, too.",
)

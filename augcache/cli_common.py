"""What the commands share: exit codes, options, printing, and running under a progress display."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from augcache.recipe import Recipe
from augcache.report import Report

OK, ERROR, USAGE, BUG, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130

Command = Callable[..., Any]


def stacked(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Make one decorator of several."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", is_flag=True, help="No progress.")
running = stacked(
    click.option("--store", help="Store to write.  [default: $AUGCACHE_STORE, or SRC.augcache]"),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        envvar="AUGCACHE_WORKERS",
        help="Worker processes; 0 works in this one.  [default: all cores]",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first N items, by name."),
    click.option(
        "--level", type=click.IntRange(0, 22), default=9, show_default=True, help="zstd level of what is stored."
    ),
    click.option("--quiet", is_flag=True, help="No progress, no summary."),
    json_option,
)


def run_build(
    run: Callable[..., Report], items: Any, recipe: Recipe, path: Path, *, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Run a build of any kind under a progress display, and print its report."""
    from augcache import console  # rich, only where something runs

    try:
        with console.show(recipe.name, quiet=quiet) as progress:
            report = run(items, recipe, path, progress=progress, **options)
    except KeyboardInterrupt:
        say(f"interrupted: what is finished is kept in {path}; run the same command again to go on")
        return INTERRUPTED
    print_result(report, as_json)
    if not quiet:
        say(summary(report))
    return SOME_FAILED if report.failed else OK


def summary(report: Report) -> str:
    """Say in two or three lines what was done and what can be done next."""
    rate = f", {report.computed / report.seconds:.1f}/s" if report.computed and report.seconds else ""
    lines = [
        f"{report.computed} computed, {report.reused} reused, {report.failed} failed in {report.seconds:.1f} s{rate}"
    ]
    if report.failed:
        lines.append(f"Why they failed: augcache failures {report.store}")
    if report.computed + report.reused:
        lines.append(f"Look at it: augcache preview {report.store} -o sheet.png")
    return "\n".join(lines)


def watched(what: str, run: Callable[..., Any], *arguments: Any, quiet: bool, **options: Any) -> Any:
    """Run something that reports its progress."""
    from augcache import console  # rich, only where something runs

    with console.show(what, quiet=quiet) as progress:
        return run(*arguments, progress=progress, **options)


def print_result(result: Any, as_json: bool) -> None:
    """Print a dataclass on stdout."""
    values = dataclasses.asdict(result)
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        rows = value if isinstance(value, list) else None
        click.echo(f"{name}: {_text(value) if rows is None else ''}".rstrip())
        for row in rows or ():
            click.echo("  - " + "\n    ".join(f"{key}: {_text(entry)}" for key, entry in row.items()))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={entry}" for key, entry in value.items())
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def say(text: str) -> None:
    """Print a message on stderr."""
    click.echo(text, err=True)

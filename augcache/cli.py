"""The command line: each command parses, calls one library function, and prints what it returns."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from augcache import __version__
from augcache.build import build
from augcache.errors import AugcacheError
from augcache.recipe import Recipe
from augcache.report import Report
from augcache.sources import MadeDataset, Pictures, open_source
from augcache.store import Store, store_path

OK, ERROR, USAGE, BUG, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130

Command = Callable[..., Any]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_building = _options(
    click.argument("src", metavar="SRC", required=False),
    click.option("--dataset", metavar="MODULE:FUNCTION", help="Instead of SRC: a map-style data set; needs --store."),
    click.option("--annotations", metavar="FILE", help="Annotations of COCO's or iNaturalist's form, for SRC."),
    click.option("--keep", multiple=True, metavar="FIELD=A,B", help="Only categories of which this holds."),
    click.option("--split", help="Of CIFAR or STL-10: train, test or unlabeled.  [default: train]"),
    click.option("--store", help="Store to write.  [default: $AUGCACHE_STORE, or SRC.augcache]"),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        envvar="AUGCACHE_WORKERS",
        help="Worker processes; 0 works in this one.  [default: all cores]",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first N pictures, by name."),
    click.option(
        "--level", type=click.IntRange(0, 22), default=9, show_default=True, help="zstd level of what is stored."
    ),
    click.option("--quiet", is_flag=True, help="No progress, no summary."),
    _json,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="augcache")
def cli() -> None:
    """Run an expensive image transform once per distinct picture; look it up by content at training time.

    A build can be stopped and run again at any time: what is finished is kept.

    Exit status: 0 all done; 1 nothing useful could be done; 2 usage; 3 a bug in augcache; 4 finished, but some
    inputs failed (see 'augcache failures'); 130 interrupted.
    """


@cli.command("build-saliency")
@_building
@click.option("--method", default="rc", show_default=True, help="Saliency map: rc, hc or another that augcache has.")
@click.option("--fast", is_flag=True, help="A faster, slightly different cut; a recipe of its own.")
def build_saliency(method: str, fast: bool, **options: Any) -> int:
    """Compute saliency, segments and cut of every picture under SRC."""
    recipe = Recipe("saliencycut", method=method, quality="fast" if fast else "exact")
    return _build(recipe, **options)


@cli.command("build")
@_building
@click.option("--transform", required=True, help="A built-in name, or package.module:function.")
@click.option("-o", "--option", "parameters", multiple=True, metavar="KEY=VALUE", help="A parameter; may be repeated.")
def build_any(transform: str, parameters: tuple[str, ...], **options: Any) -> int:
    """Compute any transform of every picture under SRC."""
    return _build(Recipe(transform, **dict(map(_parameter, parameters))), **options)


@cli.command("resize")
@_building
@click.option("--size", default="64", show_default=True, metavar="N|WxH", help="Width and height of the copies.")
@click.option("--fit", type=click.Choice(["stretch", "crop", "pad"]), default="stretch", show_default=True)
@click.option(
    "--format",
    "stored",
    type=click.Choice(["raw", "webp", "jpeg"]),
    default="raw",
    show_default=True,
    help="How a copy is stored: raw and webp are lossless, jpeg (quality 95) is not.",
)
@click.option("--masks", metavar="DIR", help="Label images of the pictures' names, resized with nearest neighbour.")
@click.option("--max-pixels", type=click.IntRange(min=1), help="List larger pictures as failures.")
def resize_copies(size: str, fit: str, stored: str, max_pixels: int | None, **options: Any) -> int:
    """Store a copy of fixed size of every picture under SRC.

    A copy shows what a viewer shows: turned as the EXIF orientation asks, transparency over white.
    """
    from augcache.resize import resize  # cv2, only here

    width, height = _size(size)
    recipe = Recipe("resize", width=width, height=height, fit=fit, stored=stored, masks=options["masks"] is not None)
    run_options = {} if max_pixels is None else {"max_pixels": max_pixels}
    return _build(recipe, run=resize, run_options=run_options, **options)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)(?:[xX]([1-9]\d*))?", text)
    if match is None:
        raise click.UsageError(f"--size {text}: give 64, or WIDTHxHEIGHT such as 128x96")
    return int(match[1]), int(match[2] or match[1])


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise click.UsageError(f"-o {text}: give KEY=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a plain word is a string


def _source(src: str | None, dataset: str | None, store: str | None, **options: Any) -> tuple[Pictures, Path]:
    """Open what the source options name, and say where its store is."""
    if (src is None) == (dataset is None):
        raise click.UsageError("Missing argument 'SRC'." if src is None else "give SRC or --dataset, not both")
    if dataset is None:
        assert src is not None  # one of the two
        return open_source(src, **options), store_path(src, store)
    if any(options.values()):
        raise click.UsageError("--dataset goes without --annotations, --keep, --split and --masks")
    if not (store or os.environ.get("AUGCACHE_STORE")):
        raise click.UsageError("--dataset has no folder to put a store beside: give --store")
    return MadeDataset(dataset), store_path("", store)


def _build(
    recipe: Recipe,
    *,
    quiet: bool,
    as_json: bool,
    run: Callable[..., Report] = build,
    run_options: dict[str, Any] | None = None,
    workers: int | None,
    limit: int | None,
    level: int,
    **source: Any,
) -> int:
    from augcache import console  # rich, only where something runs

    pictures, path = _source(**source)
    options = {"workers": workers, "limit": limit, "level": level, **(run_options or {})}
    try:
        with console.show(recipe.name, quiet=quiet) as progress:
            report = run(pictures, recipe, path, progress=progress, **options)
    except KeyboardInterrupt:
        _say(f"interrupted: finished pictures are kept in {path}; run the same command again to go on")
        return INTERRUPTED
    _print(report, as_json)
    if not quiet:
        _say(_summary(report))
    return SOME_FAILED if report.failed else OK


def _summary(report: Report) -> str:
    rate = f", {report.computed / report.seconds:.1f} pictures/s" if report.computed and report.seconds else ""
    lines = [
        f"{report.computed} computed, {report.reused} reused, {report.failed} failed in {report.seconds:.1f} s{rate}"
    ]
    if report.failed:
        lines.append(f"Why they failed: augcache failures {report.store}")
    if report.computed + report.reused:
        lines.append(f"Look at it: augcache preview {report.store} -o sheet.png")
    return "\n".join(lines)


@cli.command()
@click.argument("store")
@_json
def info(store: str, as_json: bool) -> int:
    """Show what is in STORE: entries, sources, failures, bytes, recipes."""
    _print(Store(store).info(), as_json)
    return OK


@cli.command()
@click.argument("store")
@_json
def failures(store: str, as_json: bool) -> int:
    """List the sources that gave no entry, and why."""
    found = list(Store(store).failures())
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(failure) for failure in found], indent=2))
    for failure in () if as_json else found:
        click.echo(f"{failure.name}\t{failure.reason}")
    return OK


@cli.command()
@click.argument("store")
@click.option("-o", "--output", default="sheet.png", show_default=True, help="Picture to write.")
@click.option("--count", type=click.IntRange(1, 200), default=6, show_default=True, help="Rows.")
@click.option("--recipe", help="Start of a recipe's digest, where the store holds several.")
@click.option("--source", help="Folder of the originals.  [default: STORE without .augcache]")
def preview(store: str, output: str, count: int, recipe: str | None, source: str | None) -> int:
    """Draw a contact sheet: original, saliency, segments, cut, re-coloured."""
    from augcache.preview import write_sheet  # cv2, only here

    click.echo(write_sheet(Store(store), output, count=count, recipe=recipe, source=source))
    return OK


_quiet = click.option("--quiet", is_flag=True, help="No progress.")


@cli.command("verify")
@click.argument("store")
@click.option("--recompute", type=click.IntRange(min=0), default=0, metavar="N", help="Compute N entries anew.")
@click.option("--sources", is_flag=True, help="List the sources that changed, vanished or are new.")
@click.option("--source", help="Folder of the originals.  [default: STORE without .augcache]")
@_quiet
@_json
def verify_store(store: str, quiet: bool, as_json: bool, **options: Any) -> int:
    """Check every checksum, array and table of STORE; exit with 1 where something is wrong."""
    from augcache.verify import verify  # cv2, only here

    result = _watched("verify", verify, store, quiet=quiet, **options)
    shown = result if as_json else dataclasses.replace(result, problems=[])
    _print(shown, as_json)
    for problem in result.problems:
        for name in () if as_json else problem.names:
            click.echo(f"{problem.kind}\t{name}")
        _say(f"augcache: {result.store}: {len(problem.names)} {problem.kind}; {problem.advice}")
    return ERROR if result.problems else OK


@cli.command("merge")
@click.argument("dst")
@click.argument("src", nargs=-1, required=True)
@_quiet
@_json
def merge_stores(dst: str, src: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Copy what the stores SRC hold into the store DST. Nothing in DST is overwritten."""
    from augcache.merge import merge

    result = _watched("merge", merge, dst, src, quiet=quiet)
    _print(result, as_json)
    if result.corrupt:
        _say(f"augcache: {result.corrupt} corrupt entries were left out; run the build again to make them anew")
    if result.clashes:
        _say(f"augcache: {result.clashes} names stand for another picture in {dst}, which keeps its own")
    return SOME_FAILED if result.corrupt else OK


@cli.command("prune")
@click.argument("store")
@click.option("--recipe", required=True, help="Start of the recipe's digest; see 'augcache info'.")
@_quiet
@_json
def prune_recipe(store: str, recipe: str, quiet: bool, as_json: bool) -> int:
    """Delete a recipe's entries, failures and manifest rows from STORE."""
    from augcache.upkeep import prune

    _print(_watched("prune", prune, store, recipe, quiet=quiet), as_json)
    _say(f"Give the space back to the disk: augcache compact {store}")
    return OK


@cli.command("compact")
@click.argument("store")
@_quiet
@_json
def compact_store(store: str, quiet: bool, as_json: bool) -> int:
    """Make the file of STORE as small as its entries allow."""
    from augcache.upkeep import compact

    _print(_watched("compact", compact, store, quiet=quiet), as_json)
    return OK


@cli.command("export")
@click.argument("store")
@click.argument("directory", metavar="DIR")
@click.option("--view", type=click.Choice(["segments", "saliency", "cut", "cutout", "image"]), help="Which picture.")
@click.option("--format", type=click.Choice(["png", "webdataset", "parquet"]), default="png", show_default=True)
@click.option("--recipe", help="Start of a recipe's digest, where the store holds several.")
@click.option("--source", help="Folder of the originals, for cutout.  [default: STORE without .augcache]")
@_quiet
@_json
def export_pictures(store: str, directory: str, quiet: bool, as_json: bool, **options: Any) -> int:
    """Write the pictures of STORE into DIR: PNG files with an index, WebDataset tar shards, or parquet files."""
    from augcache.export import export  # cv2, only here

    _print(_watched("export", export, store, directory, quiet=quiet, **options), as_json)
    return OK


def _watched(what: str, run: Callable[..., Any], *arguments: Any, quiet: bool, **options: Any) -> Any:
    from augcache import console  # rich, only where something runs

    with console.show(what, quiet=quiet) as progress:
        return run(*arguments, progress=progress, **options)


def _print(result: Any, as_json: bool) -> None:
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


def _say(text: str) -> None:
    click.echo(text, err=True)


def main() -> None:
    """Run the command line; the one place where errors become messages and exit codes."""
    # A console script does not look for modules where it is run, but --transform mypkg.mod:fn must find them.
    sys.path.insert(0, os.getcwd())
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # batch systems stop a job so
    try:
        code = cli(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        code = USAGE
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        code = INTERRUPTED
    except click.ClickException as error:
        _say(f"augcache: {error.format_message()}")
        code = ERROR
    except AugcacheError as error:
        _say(f"augcache: {error}")
        code = ERROR
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = OK
    except Exception:  # noqa: BLE001  # the boundary: whatever is left is a bug, and says so
        traceback.print_exc()
        _say("augcache: this is a bug; please report it with the lines above")
        code = BUG
    sys.exit(code)


if __name__ == "__main__":
    main()

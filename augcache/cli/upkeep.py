"""Commands that look at a store, and that look after it."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from augcache.cli.common import (
    PATH,
    json_option,
    look_here,
    print_result,
    quiet_option,
    store_argument,
    tell,
    tell_file,
    tell_json,
    watched,
)
from augcache.cli.exit_codes import ERROR, OK, SOME_FAILED, say, show
from augcache.extras import check_opencv
from augcache.storage.open_store import open_store
from augcache.storage.progress_note import running, running_text


@click.command(short_help="What is in STORE, and how far a running build is.")
@store_argument
@json_option
def info(store: str, as_json: bool) -> int:
    """Show what is in STORE: entries, sources, failures, bytes, recipes; and how far a running build is."""
    opened = open_store(store)
    found, now = opened.info(), running(opened.path)
    if as_json:
        tell_json({**dataclasses.asdict(found), "running": now})
        return OK
    print_result(found, as_json)
    if now is not None:
        show(f"running: {running_text(now)}", sys.stdout)
    return OK


@click.command(short_help="Which sources gave no entry, and why.")
@store_argument
@json_option
def failures(store: str, as_json: bool) -> int:
    """List the sources that gave no entry, and why: a name, a tab and a reason in each line."""
    found = list(open_store(store).failures())
    if as_json:
        tell_json([dataclasses.asdict(failure) for failure in found])
    for failure in () if as_json else found:
        tell(failure.name, failure.reason)
    return OK


@click.command(short_help="Draw images of STORE on one sheet.")
@store_argument
@click.option("-o", "--output", type=PATH, default="sheet.png", show_default=True, help="Image to write.")
@click.option("--count", type=click.IntRange(1, 200), default=6, show_default=True, help="Rows.")
@click.option("--recipe", help="Name of a transform, or start of a digest, where STORE has several.")
@click.option("--source", type=PATH, help="Folder of the originals.  [default: STORE without .augcache]")
def preview(store: str, output: str, count: int, recipe: str | None, source: str | None) -> int:
    """Draw a contact sheet: original, saliency, segments, cut, re-coloured."""
    check_opencv()
    from augcache.pages.preview import write_sheet

    tell_file(write_sheet(store, output, count=count, recipe=recipe, source=source))
    return OK


@click.command("report", short_help="Write one HTML page that shows STORE.")
@store_argument
@click.option("-o", "--output", type=PATH, default="report.html", show_default=True, help="Page to write.")
@click.option(
    "--count", type=click.IntRange(1, 20000), default=300, show_default=True, help="Images to draw; 10 KB each."
)
@click.option("--recipe", help="Name of a transform, or start of a digest, to show alone.")
@click.option("--source", type=PATH, help="Folder of the originals.  [default: STORE without .augcache]")
@quiet_option
def report_page(store: str, output: str, quiet: bool, **options: Any) -> int:
    """Write one HTML page: a gallery to filter, distributions, failures with reasons, provenance.

    It needs no network and no other file. Totals and distributions are over all records.
    """
    check_opencv()
    from augcache.pages.report import write_report

    tell_file(watched("report", write_report, store, output, quiet=quiet, **options))
    return OK


@click.command("verify", short_help="Check STORE, its sources, and its results.")
@store_argument
@click.option("--recompute", type=click.IntRange(min=0), default=0, metavar="N", help="Compute N entries anew.")
@click.option(
    "--transform",
    "transforms",
    multiple=True,
    metavar="NAME",
    help="Run this transform for --recompute, which is not an installed one; may be repeated.",
)
@click.option("--sources", is_flag=True, help="List the sources that changed, vanished or are new.")
@click.option("--digests", is_flag=True, help="With --sources: compare the bytes of them all.")
@click.option("--source", type=PATH, help="Folder of the originals.  [default: STORE without .augcache]")
@quiet_option
@json_option
def verify_store(store: str, quiet: bool, as_json: bool, transforms: tuple[str, ...], **options: Any) -> int:
    """Check every checksum, array and table of STORE; exit with 1 where something is wrong.

    --recompute runs augcache's own transforms, those of installed packages, and those that --transform names; a store
    alone never decides what runs.
    """
    if options["digests"] and not options["sources"]:
        raise click.UsageError("--digests compares the bytes of the sources: give --sources as well")
    if transforms and not options["recompute"]:
        raise click.UsageError("--transform goes with --recompute N")
    if transforms:
        look_here()
    check_opencv()
    from augcache.upkeep.verify import verify

    result = watched("verify", verify, store, quiet=quiet, transforms=transforms, **options)
    shown = result if as_json else dataclasses.replace(result, problems=[])
    print_result(shown, as_json)
    for problem in result.problems:
        for name in () if as_json else problem.names:
            tell(problem.kind, name)
        say(f"augcache: {result.store}: {len(problem.names)} {problem.kind}; {problem.advice}")
    return ERROR if result.problems else OK


@click.command("merge", short_help="Copy what the stores SRC hold into DST.")
@click.argument("dst", type=PATH)
@click.argument("src", nargs=-1, required=True, type=PATH)
@quiet_option
@json_option
def merge_stores(dst: str, src: tuple[str, ...], quiet: bool, as_json: bool) -> int:
    """Copy what the stores SRC hold into the store DST. Nothing in DST is overwritten."""
    from augcache.upkeep.merge import merge

    result = watched("merge", merge, dst, src, quiet=quiet)
    print_result(result, as_json)
    if result.corrupt:
        say(f"augcache: {result.corrupt} corrupt entries were left out; run the build again to make them anew")
    if result.clashes:
        say(f"augcache: {result.clashes} names stand for another image in {dst}, which keeps its own")
    return SOME_FAILED if result.corrupt else OK


@click.command("prune", short_help="Delete a recipe's entries from STORE.")
@store_argument
@click.option("--recipe", required=True, help="Name of its transform, or start of its digest; see 'augcache info'.")
@quiet_option
@json_option
def prune_recipe(store: str, recipe: str, quiet: bool, as_json: bool) -> int:
    """Delete a recipe's entries, failures and manifest rows from STORE."""
    from augcache.upkeep.prune import prune

    print_result(watched("prune", prune, store, recipe, quiet=quiet), as_json)
    say(f"Give the space back to the disk: augcache compact {store}")
    return OK


@click.command("compact", short_help="Make the file of STORE small.")
@store_argument
@quiet_option
@json_option
def compact_store(store: str, quiet: bool, as_json: bool) -> int:
    """Make the file of STORE as small as its entries allow."""
    from augcache.upkeep.prune import compact

    print_result(watched("compact", compact, store, quiet=quiet), as_json)
    return OK


@click.command("export", short_help="Write the images of STORE as files into DIR.")
@store_argument
@click.argument("directory", metavar="DIR", type=PATH)
@click.option("--view", type=click.Choice(["segments", "saliency", "cut", "cutout", "image"]), help="Which image.")
@click.option("--format", type=click.Choice(["png", "webdataset", "parquet"]), default="png", show_default=True)
@click.option("--recipe", help="Name of a transform, or start of a digest, where STORE has several.")
@click.option("--source", type=PATH, help="Folder of the originals, for cutout.  [default: STORE without .augcache]")
@quiet_option
@json_option
def export_images(store: str, directory: str, quiet: bool, as_json: bool, **options: Any) -> int:
    """Write the images of STORE into DIR: PNG files with an index, WebDataset tar shards, or parquet files."""
    check_opencv()
    from augcache.upkeep.export import export

    print_result(watched("export", export, store, directory, quiet=quiet, **options), as_json)
    return OK


COMMANDS = (
    info,
    failures,
    preview,
    report_page,
    verify_store,
    merge_stores,
    prune_recipe,
    compact_store,
    export_images,
)

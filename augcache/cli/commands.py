"""The command line: each command parses, calls one library function, and prints what it returns."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from augcache import __version__
from augcache.building.build import build, extract_frames, resize
from augcache.building.build_report import Report
from augcache.cli.common import (
    PATH,
    look_here,
    max_pixels_option,
    run_build,
    running,
    stacked,
    timeout_option,
    verbose_option,
)
from augcache.cli.upkeep import COMMANDS
from augcache.extras import check_opencv
from augcache.recipe import Recipe
from augcache.sources import Images, MadeDataset, Videos
from augcache.sources.stored import open_images
from augcache.storage.store_path import store_path

_building = stacked(
    click.argument("src", metavar="SRC", required=False, type=PATH),
    click.option("--dataset", metavar="MODULE:FUNCTION", help="Instead of SRC: a map-style dataset; needs --store."),
    click.option(
        "--annotations", type=PATH, metavar="FILE", help="Annotations of COCO's or iNaturalist's form, for SRC."
    ),
    click.option("--keep", multiple=True, metavar="FIELD=A,B", help="Only categories of which this holds."),
    click.option("--split", help="Of CIFAR or STL-10: train, test or unlabeled.  [default: train]"),
    max_pixels_option,
    timeout_option,
    running,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="augcache")
def cli() -> None:
    """Run an expensive image transform once per distinct image; look it up by content at training time.

    \b
    augcache build-saliency photos           writes photos.augcache
    augcache report photos.augcache          writes report.html, to look at it

    A build can be stopped and run again at any time: what is finished is kept.

    Exit status: 0 all done; 1 nothing useful could be done; 2 usage; 3 a bug in augcache; 4 finished, but some
    inputs failed (see 'augcache failures'); 130 interrupted.
    """  # noqa: D301  # click wants the character that \b stands for


@cli.command("build-saliency", short_help="Saliency, segments and cut of every image under SRC.")
@_building
@click.option("--method", default="rc", show_default=True, help="Saliency map: rc, hc, mbd or multiscale.")
@click.option("--fast", is_flag=True, help="A faster, slightly different cut; a recipe of its own.")
def build_saliency(method: str, fast: bool, **options: Any) -> int:
    """Compute saliency, segments and cut of every image under SRC."""
    recipe = Recipe("saliencycut", method=method, quality="fast" if fast else "exact")
    return _build(recipe, **options)


@cli.command("build", short_help="Any transform of every image under SRC.")
@_building
@click.option("--transform", required=True, help="A built-in name, or package.module:function.")
@click.option("-o", "--option", "parameters", multiple=True, metavar="KEY=VALUE", help="A parameter; may be repeated.")
def build_any(transform: str, parameters: tuple[str, ...], **options: Any) -> int:
    """Compute any transform of every image under SRC."""
    look_here()
    return _build(Recipe(transform, **dict(map(_parameter, parameters))), **options)


@cli.command("resize", short_help="A copy of fixed size of every image under SRC.")
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
@click.option(
    "--masks",
    type=PATH,
    metavar="DIR",
    help="Label images of the images' names, resized with nearest neighbour.",
)
@click.option(
    "--mask-orientation",
    type=click.Choice(["stored", "shown"]),
    help="What masks are of where EXIF turns an image and no size shows it: its pixels as stored, or as shown.",
)
def resize_copies(size: str, fit: str, stored: str, mask_orientation: str | None, **options: Any) -> int:
    """Store a copy of fixed size of every image under SRC.

    A copy shows what a viewer shows: turned as the EXIF orientation asks, transparency over white.
    """
    check_opencv()
    width, height = _size(size)
    if mask_orientation is not None and options["masks"] is None:
        raise click.UsageError("--mask-orientation says what masks are of: give --masks as well")
    masks = mask_orientation or options["masks"] is not None
    recipe = Recipe("resize", width=width, height=height, fit=fit, stored=stored, masks=masks)
    return _build(recipe, run=resize, **options)


@cli.command("extract-frames", short_help="Chosen frames of every video under SRC.")
@click.argument("src", type=PATH)
@click.option("--every", type=click.IntRange(min=1), help="Frames 0, N, 2N ... of each video.")
@click.option("--seconds", type=float, help="The first frame at or after each of 0, S, 2S ... seconds.")
@click.option("--keyframes", is_flag=True, help="The key frames.")
@click.option("--start", type=float, help="Nothing before so many seconds.")
@click.option("--end", type=float, help="Nothing from so many seconds on.")
@click.option("--max-per-video", "max_frames", type=click.IntRange(min=1), help="At most so many frames a video.")
@click.option("--anchors", type=click.IntRange(min=0), default=0, metavar="P", help="P successors of each frame, too.")
@click.option("--gap", type=click.IntRange(min=1), default=1, show_default=True, help="Frames between successors.")
@click.option("--size", default="native", show_default=True, metavar="N|WxH|native", help="Size of the frames.")
@click.option("--fit", type=click.Choice(["stretch", "crop", "pad"]), default="stretch", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="Seconds until a decoder that gives nothing is stopped.",
)
@running
def extract(src: str, every: int | None, size: str, store: str | None, timeout: float, **options: Any) -> int:
    """Store chosen frames of every video under SRC, exact and turned upright.

    Frame k is the k-th frame that a full decode presents. Give one of --every, --seconds and --keyframes.
    """
    check_opencv()
    width, height = (0, 0) if size == "native" else _size(size)
    names = ("seconds", "keyframes", "start", "end", "max_frames", "anchors", "gap", "fit")
    chosen = {name: options.pop(name) for name in names}
    if every is None and chosen["seconds"] is None and not chosen["keyframes"]:
        raise click.UsageError("say which frames: --every N, --seconds S or --keyframes")
    recipe = Recipe("frame", every=every, width=width, height=height, **chosen)
    return run_build(extract_frames, Videos(src), recipe, store_path(src, store), timeout=timeout, **options)


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


def _source(src: str | None, dataset: str | None, store: str | None, **options: Any) -> tuple[Images, Path]:
    """Open what the source options name, and say where its store is."""
    if (src is None) == (dataset is None):
        raise click.UsageError("Missing argument 'SRC'." if src is None else "give SRC or --dataset, not both")
    if dataset is None:
        assert src is not None  # one of the two
        path = store_path(src, store)  # first: listing a large folder takes long
        return open_images(src, **options), path
    if any(options.values()):
        raise click.UsageError("--dataset goes without --annotations, --keep, --split and --masks")
    if not (store or os.environ.get("AUGCACHE_STORE")):
        raise click.UsageError("--dataset has no folder to put a store beside: give --store")
    look_here()
    return MadeDataset(dataset), store_path("", store)


def _build(
    recipe: Recipe,
    *,
    quiet: bool,
    as_json: bool,
    run: Callable[..., Report] = build,
    max_pixels: int | None,
    **options: Any,
) -> int:
    check_opencv()
    if recipe.name == "saliencycut":
        importlib.import_module("augcache.records.compiled")  # numba, for the same reason
    how = {
        name: options.pop(name) for name in ("workers", "backend", "scheduler", "shard", "limit", "level", "timeout")
    }
    if max_pixels is not None:
        how["max_pixels"] = max_pixels
    images, path = _source(**options)
    return run_build(run, images, recipe, path, quiet=quiet, as_json=as_json, **how)


for _command in COMMANDS:
    cli.add_command(_command)
for _command in cli.commands.values():
    verbose_option(_command)

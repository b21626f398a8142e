"""A contact sheet of a store: one row an image, from the original to its re-coloured views; or a grid of copies."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from augcache.errors import AugcacheError, CorruptError, StoreError
from augcache.images.decode import decode_views
from augcache.images.keys import ContentKey, content_key
from augcache.paths import home_expanded
from augcache.recipe import Recipe
from augcache.records.html import thin
from augcache.sources import read_regular
from augcache.sources.stored import is_image, lists_images
from augcache.storage.choose_recipe import choose
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.storage.store_path import source_folder
from augcache.text import printable
from augcache.training.jitter import Jitter
from augcache.training.listing import from_manifest
from augcache.training.lookup import gives
from augcache.training.views import render, segments
from augcache.transforms.resize import pixels
from augcache.whole_file import replaceable, write_whole

COLUMNS = ("original", "saliency", "segments", "cut", "re-coloured 1", "re-coloured 2", "re-coloured 3")
_TILE = (208, 160)  # pixels
_GRID_COLUMNS = 8
_GAP, _HEAD, _CAPTION = 10, 34, 34
_WIDTH = _GAP + len(COLUMNS) * (_TILE[0] + _GAP)
_PAPER, _INK, _PALE = (255, 255, 255), (32, 32, 36), (112, 112, 120)
_OUTLINE = (255, 40, 90)


def write_sheet(
    store: str | os.PathLike[str] | Store,
    output: str | os.PathLike[str],
    *,
    count: int = 6,
    recipe: Recipe | str | None = None,
    source: str | os.PathLike[str] | None = None,
) -> str:
    """Draw images spread evenly over a store's manifest, and write the sheet.

    Parameters
    ----------
    store : path-like or Store
        With saliency records, resized copies or video frames.
    output : path-like
        Image to write; its suffix says the format.
    count : int
        Rows; a row of copies or frames has eight of them.
    recipe : Recipe or str, optional
        Which, where the store holds several that fit: the recipe, the name of its transform, or the start of its
        digest in hex.
    source : path-like, optional
        Folder of the originals. Without them, the first column says so.

    Returns
    -------
    str
        `output`.

    Raises
    ------
    StoreError
        If the store holds nothing to show, or several kinds of it, or the sheet cannot be written.

    Examples
    --------
    >>> write_sheet("films.augcache", "sheet.png")
    'sheet.png'
    """
    store = open_store(store)
    form = _format(output)
    # Saliency first: where frames or copies lie beside what was computed from them, they are its originals.
    kinds = [kind for kind in ("segments", "image") if any(gives(store, each, kind) for each in store.recipes())]
    chosen = choose(
        store,
        recipe,
        lambda each: gives(store, each, (*kinds, "segments")[0]),
        "images or segments (augcache report shows any record)",
    )
    if gives(store, chosen, "segments"):
        folder = source_folder(store.path) if source is None else Path(home_expanded(source))
        sheet = _table(store, chosen, count, folder)
    else:
        sheet = _grid(store, chosen, count * _GRID_COLUMNS)
    data = io.BytesIO()
    try:
        sheet.save(data, form)
        write_whole(output, data.getvalue())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise StoreError(f"{output}: the sheet cannot be written ({reason}); give a name such as sheet.png") from error
    return os.fspath(output)


def _format(output: str | os.PathLike[str]) -> str:
    """Return the format that a name's suffix says; PNG for stdout and the like."""
    suffix = os.path.splitext(os.fsdecode(output))[1].lower()
    if not suffix and replaceable(output) is None and not os.path.isdir(output):
        return "PNG"
    form = Image.registered_extensions().get(suffix, "")
    if form not in Image.SAVE:
        raise StoreError(f"{output}: no image format has the suffix {suffix!r}; give a name such as sheet.png")
    return form


def _spread(total: int, count: int) -> list[int]:
    """Up to `count` indices, spread evenly."""
    return sorted({round(x) for x in np.linspace(0, total - 1, min(count, total))})


def _table(store: Store, recipe: Recipe, count: int, folder: Path | None) -> Image.Image:
    """One row an image, a column a view."""
    listing = from_manifest(store, recipe)
    strips = []
    for number in _spread(len(listing.names), count):
        key, name = listing.key(number), listing.names[number]
        assert key is not None  # a manifest has keys
        record = store.get(recipe, key)
        assert record is not None  # the listing has looked
        strips.append(_strip(number, name, record, original_of(store, key, name, folder)))
    sheet = Image.new("RGB", (_WIDTH, _HEAD + sum(strip.height for strip in strips)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        draw.text((_x(column), 9), title, fill=_INK, font=_font(15))
    top = _HEAD
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    return sheet


def _grid(store: Store, recipe: Recipe, count: int) -> Image.Image:
    """Frames or resized copies, with their names."""
    rows = list(store.sources(recipe.digest))
    picked = [rows[number] for number in _spread(len(rows), count)]
    cell = (_WIDTH - _GAP) // _GRID_COLUMNS
    high = cell + _CAPTION
    sheet = Image.new("RGB", (_WIDTH, _GAP + math.ceil(len(picked) / _GRID_COLUMNS) * high), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, row in enumerate(picked):
        record = store.get(recipe, row.key)
        if record is None:
            raise StoreError(f"{store.path}: {row.name} has a manifest row and no record; run 'augcache verify'")
        x, y = _GAP + number % _GRID_COLUMNS * cell, _GAP + number // _GRID_COLUMNS * high
        tile = Image.fromarray(pixels(record))
        scale = (cell - _GAP) / max(tile.size)
        size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
        sheet.paste(tile.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS), (x, y))
        where = "" if row.frame is None else f"frame {row.frame}, {row.seconds:.1f} s"
        name = printable(row.name)
        draw.text((x, y + size[1] + 3), (name if len(name) < 26 else "..." + name[-23:]), _PALE, _font(12))
        draw.text((x, y + size[1] + 17), where or printable(row.label)[:40], _PALE, _font(12))
    return sheet


def original_of(store: Store, key: ContentKey, name: str | None, folder: Path | None) -> np.ndarray | None:
    """Find an original: in the store as a frame or copy, or in its folder; None where it is not at hand."""
    for recipe in store.recipes():
        record = store.get(recipe, key)
        if record is not None and is_image(record) and lists_images(store, recipe):
            image = pixels(record)
            return image if image.ndim == 3 and image.dtype == np.uint8 else None
    if folder is None or name is None:
        return None
    try:
        image = decode_views(read_regular(folder / name))[0]
    except AugcacheError:
        return None  # shown as missing; a preview needs no originals
    return image if content_key(image) == key else None  # the file is another one by now


def _strip(number: int, name: str, record: Mapping[str, np.ndarray], original: np.ndarray | None) -> Image.Image:
    """One row of the sheet."""
    caption = _caption(name, record)
    if original is not None and original.shape[:2] != record["labels"].shape:
        raise CorruptError(f"record: its labels are of {record['labels'].shape}, its image of {original.shape[:2]}")
    original = None if original is None else thin(original)
    thinned = {name: thin(record[name]) for name in ("labels", "cut") if name in record}
    record = {**record, **thinned}
    palette = record["palette"]
    flat = segments(record["labels"], palette)
    images = [original, None, flat, None]
    if "region_saliency" in record:
        images[1] = render(record, "saliency")
    if "cut" in record:
        images[3] = _outlined(flat if original is None else original, record["cut"])
    for seed in range(3):
        jitter, generator = Jitter(), np.random.default_rng([seed, number])
        images.append(segments(record["labels"], jitter(palette, generator.random(jitter.draws(len(palette))))))
    width, height = _fit(flat)
    strip = Image.new("RGB", (_WIDTH, height + _CAPTION), _PAPER)
    draw = ImageDraw.Draw(strip)
    for column, image in enumerate(images):
        if image is None:
            draw.rectangle((_x(column), 0, _x(column) + width - 1, height - 1), outline=(220, 220, 224))
            draw.text((_x(column) + 12, height // 2 - 8), "not at hand", fill=_PALE, font=_font(13))
        else:
            method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_NEAREST
            tile = cv2.resize(image, (width, height), interpolation=method)
            strip.paste(Image.fromarray(np.asarray(tile)), (_x(column), 0))
    draw.text((_x(0), height + 4), caption, fill=_PALE, font=_font(13))
    return strip


def _fit(image: np.ndarray) -> tuple[int, int]:
    """Width and height of an image in its tile."""
    height, width = image.shape[:2]
    scale = min(_TILE[0] / width, _TILE[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _caption(name: str, record: Mapping[str, np.ndarray]) -> str:
    height, width = record["labels"].shape
    name = printable(name)
    parts = [name if len(name) <= 60 else "..." + name[-57:], f"{width} x {height}"]
    parts.append(f"{len(record['palette'])} regions")
    if "cut" in record:
        empty = "status" in record and str(record["status"]) != "ok"
        parts.append("no salient region" if empty else f"cut {record['cut'].mean():.0%} of the area")
    return "   ".join(parts)


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Dim what is outside the cut, and draw its outline."""
    dim = (image * 0.35 + 160 * 0.65).astype(np.uint8)
    out = np.where(mask[:, :, None], image, dim)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(mask.shape) / 160))
    return np.asarray(cv2.drawContours(np.ascontiguousarray(out), contours, -1, _OUTLINE, thickness))


def _x(column: int) -> int:
    return _GAP + column * (_TILE[0] + _GAP)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

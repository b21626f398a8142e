"""A contact sheet of a store: one row a picture, from the original to its re-coloured views."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from augcache.errors import AugcacheError, StoreError
from augcache.images import decode_views
from augcache.jitter import Jitter
from augcache.lookup import choose_recipe
from augcache.manifest import Source
from augcache.store import SUFFIX, Store
from augcache.views import render, segments

COLUMNS = ("original", "saliency", "segments", "cut", "re-coloured 1", "re-coloured 2", "re-coloured 3")
_TILE = (208, 160)  # pixels
_GAP, _HEAD, _CAPTION = 10, 34, 34
_WIDTH = _GAP + len(COLUMNS) * (_TILE[0] + _GAP)
_PAPER, _INK, _PALE = (255, 255, 255), (32, 32, 36), (112, 112, 120)
_OUTLINE = (255, 40, 90)


def write_sheet(
    store: Store,
    output: str | os.PathLike[str],
    *,
    count: int = 6,
    recipe: str | None = None,
    source: str | os.PathLike[str] | None = None,
) -> str:
    """Draw pictures spread evenly over a store's manifest, and write the sheet.

    Parameters
    ----------
    store : Store
        With saliency records.
    output : path-like
        Picture to write; its suffix says the format.
    count : int
        Rows.
    recipe : str, optional
        Start of the recipe's digest, where the store holds several that fit.
    source : path-like, optional
        Folder of the originals. Without them, the first column says so.

    Returns
    -------
    str
        `output`.

    Raises
    ------
    StoreError
        If the store holds no saliency records, or the sheet cannot be written.
    """
    chosen = choose_recipe(store, "segments", recipe)
    rows = [row for row in store.sources() if (chosen, row.key) in store]
    if not rows:
        raise StoreError(f"{store.path}: no pictures in its manifest; build it from a folder first")
    picked = [rows[i] for i in sorted({round(x) for x in np.linspace(0, len(rows) - 1, min(count, len(rows)))})]
    folder = Path(source) if source is not None else _folder_of(store.path)
    strips = []
    for number, row in enumerate(picked):
        record = store.get(chosen, row.key)
        assert record is not None  # it was in the store a moment ago
        strips.append(_strip(number, row, record, _original(folder, row)))
    sheet = Image.new("RGB", (_WIDTH, _HEAD + sum(strip.height for strip in strips)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        draw.text((_x(column), 9), title, fill=_INK, font=_font(15))
    top = _HEAD
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    try:
        sheet.save(output)
    except (OSError, ValueError) as error:
        raise StoreError(f"{output}: the sheet cannot be written ({error}); give a name such as sheet.png") from error
    return str(output)


def _folder_of(store: Path) -> Path | None:
    return store.with_name(store.name.removesuffix(SUFFIX)) if store.name.endswith(SUFFIX) else None


def _original(folder: Path | None, row: Source) -> np.ndarray | None:
    if folder is None:
        return None
    try:
        return decode_views((folder / row.name).read_bytes())[0]
    except (OSError, AugcacheError):
        return None  # shown as missing; a preview needs no originals


def _strip(number: int, row: Source, record: Mapping[str, np.ndarray], original: np.ndarray | None) -> Image.Image:
    """One row of the sheet."""
    palette = record["palette"]
    flat = segments(record["labels"], palette)
    if original is not None and original.shape != flat.shape:
        original = None  # the file is another one by now
    pictures = [original, None, flat, None]
    if "region_saliency" in record:
        pictures[1] = render(record, "saliency")
    if "cut" in record:
        pictures[3] = _outlined(flat if original is None else original, record["cut"])
    for seed in range(3):
        jitter, generator = Jitter(), np.random.default_rng([seed, number])
        pictures.append(segments(record["labels"], jitter(palette, generator.random(jitter.draws(len(palette))))))
    width, height = _fit(flat)
    strip = Image.new("RGB", (_WIDTH, height + _CAPTION), _PAPER)
    draw = ImageDraw.Draw(strip)
    for column, picture in enumerate(pictures):
        if picture is None:
            draw.rectangle((_x(column), 0, _x(column) + width - 1, height - 1), outline=(220, 220, 224))
            draw.text((_x(column) + 12, height // 2 - 8), "not at hand", fill=_PALE, font=_font(13))
        else:
            method = cv2.INTER_AREA if width < picture.shape[1] else cv2.INTER_NEAREST
            tile = cv2.resize(picture, (width, height), interpolation=method)
            strip.paste(Image.fromarray(np.asarray(tile)), (_x(column), 0))
    draw.text((_x(0), height + 4), _caption(row, record), fill=_PALE, font=_font(13))
    return strip


def _fit(picture: np.ndarray) -> tuple[int, int]:
    """Width and height of a picture in its tile."""
    height, width = picture.shape[:2]
    scale = min(_TILE[0] / width, _TILE[1] / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _caption(row: Source, record: Mapping[str, np.ndarray]) -> str:
    height, width = record["labels"].shape
    parts = [row.name if len(row.name) <= 60 else "..." + row.name[-57:], f"{width} x {height}"]
    parts.append(f"{len(record['palette'])} regions")
    if "cut" in record:
        empty = "status" in record and str(record["status"]) != "ok"
        parts.append("no salient region" if empty else f"cut {record['cut'].mean():.0%} of the area")
    return "   ".join(parts)


def _outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Dim what is outside the cut, and draw its outline."""
    dim = (picture * 0.35 + 160 * 0.65).astype(np.uint8)
    out = np.where(mask[:, :, None], picture, dim)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(max(mask.shape) / 160))
    return np.asarray(cv2.drawContours(np.ascontiguousarray(out), contours, -1, _OUTLINE, thickness))


def _x(column: int) -> int:
    return _GAP + column * (_TILE[0] + _GAP)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

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
from augcache.jitter import PaletteJitter
from augcache.lookup import choose_recipe
from augcache.manifest import Source
from augcache.store import SUFFIX, Store
from augcache.views import render, segments

COLUMNS = ("original", "saliency", "segments", "cut", "re-coloured 1", "re-coloured 2", "re-coloured 3")
_TILE = (208, 160)  # pixels
_GAP, _HEAD, _CAPTION = 10, 34, 24
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
    sheet = _blank(len(picked))
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        draw.text((_x(column), 9), title, fill=_INK, font=_font(15))
    for number, row in enumerate(picked):
        record = store.get(chosen, row.key)
        assert record is not None  # it was in the store a moment ago
        _draw_row(sheet, number, row, record, _original(folder, row))
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


def _draw_row(
    sheet: Image.Image, number: int, row: Source, record: Mapping[str, np.ndarray], original: np.ndarray | None
) -> None:
    palette = record["palette"]
    flat = segments(record["labels"], palette)
    if original is not None and original.shape != flat.shape:
        original = None  # the file is another one by now
    pictures = [original, None, flat, None]
    if "region_saliency" in record:
        pictures[1] = render(record, "saliency", palette=palette, image=None)
    if "cut" in record:
        pictures[3] = _outlined(flat if original is None else original, record["cut"])
    for seed in range(3):
        jitter, generator = PaletteJitter(), np.random.default_rng([seed, number])
        pictures.append(segments(record["labels"], jitter(palette, generator.random(jitter.draws(len(palette))))))
    top = _HEAD + number * (_TILE[1] + _CAPTION + _GAP)
    draw = ImageDraw.Draw(sheet)
    for column, picture in enumerate(pictures):
        _paste(sheet, picture, _x(column), top)
    draw.text((_x(0), top + _TILE[1] + 3), _caption(row, record), fill=_PALE, font=_font(13))


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


def _paste(sheet: Image.Image, picture: np.ndarray | None, x: int, y: int) -> None:
    if picture is None:
        draw = ImageDraw.Draw(sheet)
        draw.rectangle((x, y, x + _TILE[0] - 1, y + _TILE[1] - 1), outline=(220, 220, 224))
        draw.text((x + 12, y + _TILE[1] // 2 - 8), "not at hand", fill=_PALE, font=_font(13))
        return
    height, width = picture.shape[:2]
    scale = min(_TILE[0] / width, _TILE[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    sheet.paste(Image.fromarray(np.asarray(tile)), (x, y))


def _blank(rows: int) -> Image.Image:
    width = _GAP + len(COLUMNS) * (_TILE[0] + _GAP)
    return Image.new("RGB", (width, _HEAD + rows * (_TILE[1] + _CAPTION + _GAP)), _PAPER)


def _x(column: int) -> int:
    return _GAP + column * (_TILE[0] + _GAP)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

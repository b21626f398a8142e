"""How records and stores show themselves in a notebook: a little HTML, with every text escaped."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

SIDE = 160  # of a drawn array, at most
_LONGEST_SIDE = 2048  # of a map that is drawn from whole
_FIGURE = (
    '<figure style="display:inline-block;margin:4px 8px 4px 0"><img src="{uri}" alt="{title}">'
    '<figcaption style="font-size:85%">{title}</figcaption></figure>'
)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table; what is in it is escaped."""
    lines = ["".join(f"<th>{html.escape(head)}</th>" for head in heads)]
    lines += ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def record_html(record: Mapping[str, np.ndarray]) -> str:
    """Draw a record: its segments and saliency, its image, its masks; then a table of all its arrays."""
    drawn: dict[str, np.ndarray] = {}
    for title, values in (("segments", "palette"), ("saliency", "region_saliency")):
        if "labels" in record and values in record:
            with contextlib.suppress(IndexError):  # it is no saliency record, for all its names
                drawn[title] = record[values][thin(record["labels"])]
    if "encoded" in record:  # a copy, as a file of an image format
        drawn |= _decoded(record["encoded"])
    for name, array in record.items():
        if name not in ("labels", "palette"):
            drawn[name] = array
    figures = [
        _FIGURE.format(uri=data_uri(array), title=html.escape(name))
        for name, array in drawn.items()
        if is_drawable(array)
    ]
    rows = ((name, array.dtype if array.dtype.kind != "U" else "text", _told(array)) for name, array in record.items())
    return "".join(figures) + table(("array", "dtype", "shape or value"), rows)


def _decoded(data: np.ndarray) -> dict[str, np.ndarray]:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data.tobytes()), formats=("WEBP", "JPEG"))
        return {"image": np.asarray(image.convert("RGB"))}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}  # the table tells of its bytes


def _told(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape)) if array.ndim else str(array)


def is_drawable(array: np.ndarray) -> bool:
    """Whether an array has the shape of an image."""
    planes = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))
    return planes and array.dtype.kind in "buif" and array.size > 0 and min(array.shape[:2]) > 1


def thin(array: np.ndarray) -> np.ndarray:
    """Return a map as it is, or of one that is too large to be worked on whole, every n-th row and column."""
    rows, columns = (max(1, side // _LONGEST_SIDE) for side in array.shape[:2])
    return array[::rows, ::columns]


def as_image(array: np.ndarray) -> np.ndarray:
    """Return uint8 (H, W, 3): colours as they are, else grey from the least value, black, to the greatest, white."""
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return array
    values = np.nan_to_num(thin(array).astype(np.float64), posinf=0, neginf=0)
    values = values.reshape(*values.shape[:2], -1)[:, :, 0]
    low, high = float(values.min()), float(values.max())
    scale = 255 / (high - low) if high > low and math.isfinite(high - low) else 0.0
    return np.repeat(np.rint((values - low) * scale).astype(np.uint8)[:, :, None], 3, axis=2)


def data_uri(array: np.ndarray, side: int = SIDE, size: tuple[int, int] | None = None) -> str:
    """Return a small WebP image of an array as a data URI, of a given width and height or of at most `side`."""
    from PIL import Image  # only where something is drawn

    image = as_image(array)
    if size is None:
        scale = min(1.0, side / max(image.shape[:2]))
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    small = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"

"""One image of the page: its name, its numbers, and small images of what its record holds."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from augcache.errors import CorruptError
from augcache.images.keys import ContentKey
from augcache.pages.preview import original_of
from augcache.pages.survey import DAMAGED, Survey
from augcache.records.html import SIDE, data_uri, is_drawable
from augcache.sources.stored import is_image
from augcache.storage.manifest import Source
from augcache.storage.store import Store
from augcache.transforms.resize import pixels

MOST_ARRAYS = 6  # of a record that is neither saliency nor an image


def card(
    number: int, store: Store, found: Survey, key: ContentKey, status: str, row: Source | None, folder: Path | None
) -> dict[str, Any]:
    """Return what the page needs to show one record."""
    name = key.hex() if row is None else row.name
    fields: dict[str, Any] = {"recipe": number, "name": name, "status": status, "key": key.hex()}
    if row is not None and row.label:
        fields["label"] = row.label
    if row is not None and row.frame is not None:
        fields |= {"frame": f"frame {row.frame}, {row.seconds:.2f} s", "number": row.frame}
    try:
        record = None if status == DAMAGED else store.get(found.recipe, key)
        if record is not None:
            return fields | _views(store, key, record, None if row is None else row.name, folder)
    except CorruptError:
        fields["status"] = DAMAGED  # its checksum fits, and what is in it cannot be read
    return fields | {"reason": "its bytes are not what was written: run 'augcache verify'"}


def _views(
    store: Store, key: ContentKey, record: Mapping[str, np.ndarray], name: str | None, folder: Path | None
) -> dict[str, Any]:
    if is_image(record):
        drawn = {"": pixels(record), "mask": record.get("mask")}
    else:
        original = original_of(store, key, name, folder)
        if is_saliency(record):
            return _saliency(record, original)
        drawn = {"original": original, **record}
    images = [(title, data_uri(array)) for title, array in drawn.items() if array is not None and is_drawable(array)]
    return {"images": images[:MOST_ARRAYS], "arrays": repr(record)}


def is_saliency(record: Mapping[str, np.ndarray]) -> bool:
    """Whether a record has regions and their colours."""
    return "labels" in record and "palette" in record


def _saliency(record: Mapping[str, np.ndarray], original: np.ndarray | None) -> dict[str, Any]:
    """Index map, palette, saliency and cut of a small image; the page makes the views, in any colours, of them."""
    labels, palette = record["labels"], record["palette"]
    rows, columns = _places(labels.shape[0], labels.shape[1])
    small = labels[rows][:, columns]
    present, small = np.unique(small, return_inverse=True)
    small = small.reshape(len(rows), len(columns)).astype("<u2" if len(present) > 256 else np.uint8)
    fields: dict[str, Any] = {
        "width": labels.shape[1],
        "height": labels.shape[0],
        "regions": len(palette),
        "columns": len(columns),
        "rows": len(rows),
        "labels": _packed(small.tobytes()),
        "wide": len(present) > 256,
        "palette": _base64(palette[present].tobytes()),
    }
    if "region_saliency" in record:
        grey = np.rint(record["region_saliency"][present] * 255).astype(np.uint8)
        fields["saliency"] = _base64(grey.tobytes())
    if "cut" in record:
        cut = record["cut"]
        fields["area"] = round(float(cut.mean()), 4)
        fields["cut"] = _packed(np.ascontiguousarray(cut[rows][:, columns]).tobytes())
    if original is not None:
        fields["original"] = data_uri(original, size=(len(columns), len(rows)))
    return fields


def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that a small image keeps; without averages, for those of region numbers mean nothing."""
    scale = min(1.0, SIDE / max(height, width))
    kept = (max(1, round(height * scale)), max(1, round(width * scale)))
    return tuple(((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(kept, (height, width), strict=True))  # type: ignore[return-value]  # two


def _packed(data: bytes) -> str:
    return _base64(zlib.compress(data, 9))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

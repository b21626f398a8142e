"""One picture of the page: its name, its numbers, and small pictures of what its record holds."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from augcache.keys import ContentKey
from augcache.manifest import Source
from augcache.markup import SIDE, data_uri, is_drawable
from augcache.page.survey import DAMAGED, Survey
from augcache.preview import original_of
from augcache.store import Store
from augcache.stored import is_picture
from augcache.transforms.resize import pixels

MOST_ARRAYS = 6  # of a record that is neither saliency nor a picture


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
    record = None if status == DAMAGED else store.get(found.recipe, key)
    if record is None:
        return {**fields, "reason": "its bytes are not what was written: run 'augcache verify'"}
    if "labels" in record and "palette" in record:
        original = original_of(store, key, None if row is None else row.name, folder)
        return {**fields, **_saliency(record, original)}
    if is_picture(record):
        picture = pixels(record)
        fields |= {"width": picture.shape[1], "height": picture.shape[0]}
        pictures = [("", data_uri(picture))]
        if "mask" in record:
            pictures.append(("mask", data_uri(record["mask"])))
        return {**fields, "pictures": pictures}
    drawn = [(title, data_uri(array)) for title, array in record.items() if is_drawable(array)]
    original = original_of(store, key, None if row is None else row.name, folder)
    if original is not None:
        drawn.insert(0, ("original", data_uri(original)))
    return {**fields, "pictures": drawn[:MOST_ARRAYS], "arrays": repr(record)}


def _saliency(record: Mapping[str, np.ndarray], original: np.ndarray | None) -> dict[str, Any]:
    """Index map, palette, saliency and cut of a small picture; the page makes the views, in any colours, of them."""
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
        grey = np.rint(np.clip(record["region_saliency"][present], 0, 1) * 255).astype(np.uint8)
        fields["saliency"] = _base64(grey.tobytes())
    if "cut" in record:
        cut = record["cut"]
        fields["area"] = round(float(cut.mean()), 4)
        fields["cut"] = _packed(np.ascontiguousarray(cut[rows][:, columns]).tobytes())
    if original is not None:
        fields["original"] = data_uri(original, size=(len(columns), len(rows)))
    return fields


def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that a small picture keeps; without averages, for those of region numbers mean nothing."""
    scale = min(1.0, SIDE / max(height, width))
    kept = (max(1, round(height * scale)), max(1, round(width * scale)))
    return tuple(((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip(kept, (height, width), strict=True))  # type: ignore[return-value]  # two


def _packed(data: bytes) -> str:
    return _base64(zlib.compress(data, 9))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()

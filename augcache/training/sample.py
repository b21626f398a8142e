"""One item of a dataset: as many draws of original or stored view as are wanted, from one read. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from augcache.extras import require
from augcache.images.keys import ContentKey, content_key
from augcache.recipe import Record
from augcache.records.codec import StoredRecord
from augcache.training.lookup import Lookup
from augcache.training.misses import Misses
from augcache.training.output_forms import as_output
from augcache.training.recolour import indexed
from augcache.training.views import index_map
from augcache.transforms.saliencycut import saliency_map

OUTPUTS = ("pil", "array", "tensor", "indexed", "masks")


def output_of(image: Any) -> str:
    """Which of `OUTPUTS` an image is."""
    if isinstance(image, Image.Image):
        return "pil"
    return "tensor" if isinstance(image, torch.Tensor) else "array"


def _uniform(shape: tuple[int, ...]) -> np.ndarray:
    """Uniform numbers from torch's generator, which DataLoader seeds anew in each worker and epoch."""
    return torch.rand(shape).numpy()


@dataclass
class Sample:
    """One item; its original and its record are each read when first needed, and once.

    Attributes
    ----------
    lookup : Lookup
        What to make of it.
    output : str
        One of `OUTPUTS`.
    name : str
        Names the image in an error.
    read : callable
        Gives the original's pixels, uint8 (H, W, 3).
    key : ContentKey or None
        The image's, where it is known without a look at it.
    image : PIL image, ndarray or tensor, optional
        The original in the form in which it is wanted, where it came in that form.
    misses : Misses, optional
        Counts misses, and watches over images that come from outside.
    """

    lookup: Lookup
    output: str
    name: str
    read: Callable[[], np.ndarray]
    key: ContentKey | None = None
    image: Any = None
    misses: Misses | None = None

    @cached_property
    def pixels(self) -> np.ndarray:
        """The original, uint8 (H, W, 3)."""
        return self.read()

    @cached_property
    def record(self) -> StoredRecord | Record | None:
        """The image's record; None where it is to be left as it is."""
        key = content_key(self.pixels) if self.key is None else self.key
        return self.lookup.record(key, self.name, lambda: self.pixels, self.misses)

    def draw(self) -> Any:
        """Give the original or its view, by a new throw of the dice."""
        original = self.lookup.p < 1 and float(_uniform(())) >= self.lookup.p
        record = None if original and self.output != "masks" else self.record
        if self.output == "masks":
            assert record is not None  # a miss is an error for those who want maps
            return masks(self.pixels.transpose(2, 0, 1) if original else self._view(record, "planes"), record)
        if record is None:
            return self._original
        if self.output == "indexed":
            return indexed(index_map(record), record["palette"], self.lookup.reused)
        if self.output == "tensor":
            return _of_the_kind(self.image, torch.from_numpy(self._view(record, "planes")))
        return self._view(record, self.output)

    @cached_property
    def _original(self) -> Any:
        return as_output(self.pixels, self.output) if self.image is None else self.image

    def _view(self, record: StoredRecord | Record, output: str) -> Any:
        original = self.pixels if self.lookup.view == "cutout" else None
        return self.lookup.rendered(record, original, _uniform, output)


def _of_the_kind(image: Any, view: torch.Tensor) -> torch.Tensor:
    """Make a view a ``tv_tensors.Image`` where the image is one; torchvision is loaded then, and never for this."""
    tv_tensors = sys.modules.get("torchvision.tv_tensors")
    return tv_tensors.wrap(view, like=image) if tv_tensors and isinstance(image, tv_tensors.Image) else view


def masks(planes: np.ndarray, record: StoredRecord | Record) -> dict[str, Any]:
    """Make the "masks" form: an image with its maps, which torchvision's v2 transforms crop and turn as one.

    Parameters
    ----------
    planes : ndarray
        uint8 (3, H, W).
    record : mapping
        A saliency record.

    Returns
    -------
    dict
        ``image``, a ``tv_tensors.Image`` uint8 (3, H, W); and as ``tv_tensors.Mask`` (H, W) what the record holds of
        ``labels`` (uint8, or int32 above 256 regions), ``saliency`` (float32, 0 to 1) and ``cut`` (bool).
    """
    tv_tensors = require("torchvision.tv_tensors", "train", "output='masks'")
    maps = {}
    if "labels" in record:
        labels = record["labels"]
        maps["labels"] = labels.copy() if labels.dtype == np.uint8 else labels.astype(np.int32)
    if "region_saliency" in record:
        maps["saliency"] = saliency_map(record)
    if "cut" in record:
        maps["cut"] = record["cut"].copy()  # what a store gives is read-only, and torch has no read-only tensors
    found = {name: tv_tensors.Mask(torch.from_numpy(array)) for name, array in maps.items()}
    return {"image": tv_tensors.Image(torch.from_numpy(planes.copy())), **found}

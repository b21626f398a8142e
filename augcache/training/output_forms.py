"""The forms in which a dataset gives its images. Imports torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

OUTPUTS = ("pil", "array", "tensor")


def as_output(array: np.ndarray, output: str) -> Any:
    """Give a stored image or mask, uint8 (H, W, 3) or (H, W), one of the `OUTPUTS`, with memory of its own.

    A record's arrays are read-only, and torch has no read-only tensors. A tensor's channels come first.
    """
    if output == "pil":
        return Image.fromarray(array)
    if output == "tensor":
        return torch.from_numpy((array.transpose(2, 0, 1) if array.ndim == 3 else array).copy())
    return array.copy()

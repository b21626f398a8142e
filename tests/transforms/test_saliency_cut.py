"""SaliencyCut: the minimum cut is exact, the masks are the reference's, and no image makes it fail."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from augcache.transforms.saliencycut import maxflow
from augcache.transforms.saliencycut.cut import saliency_cut

PARITY = {
    "pascal_s": ("423", "494", "522", "759", "827", "843", "348", "640"),
    "weizmann_horse": ("horse005", "horse062", "horse278"),
    "msra1000_nomask": ("0_0_272", "0_12_12144", "1_30_30226", "2_82_82695", "1_54_54381", "2_75_75231"),
}


def reachable(capacity: np.ndarray, terminal: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What the source reaches, and what reaches the sink, after SciPy's maximum flow."""
    n = len(terminal)
    step = maxflow.steps(width) // maxflow.FIELDS
    links = [(i, i + step[d], capacity[i, d]) for i in range(n) for d in range(8) if capacity[i, d]]
    links += [(n, i, terminal[i]) for i in range(n) if terminal[i] > 0]
    links += [(i, n + 1, -terminal[i]) for i in range(n) if terminal[i] < 0]
    rows, columns, values = np.array(links or [(0, 0, 0)]).T
    graph = coo_matrix((values, (rows, columns)), shape=(n + 2, n + 2)).tocsr().astype(np.int32)
    residual = graph - maximum_flow(graph, n, n + 1).flow
    residual.data[residual.data < 0] = 0
    residual.eliminate_zeros()
    sides = np.zeros((2, n + 2), bool)
    sides[0, breadth_first_order(residual, n, return_predecessors=False)] = True
    sides[1, breadth_first_order(residual.T.tocsr(), n + 1, return_predecessors=False)] = True
    return sides[0, :n], sides[1, :n]


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=80, deadline=None)
def test_cut_is_minimal_and_stays_so_when_terminals_change(
    height: int, width: int, most: int, seed: int, small_change: bool
) -> None:
    """The cut equals that of SciPy's maximum flow, the first time and after each change of the data terms."""
    rng = np.random.default_rng(seed)
    across = width + 2
    inside = np.zeros((height + 2, across), bool)
    inside[1:-1, 1:-1] = True
    step = maxflow.steps(across)
    nodes = np.flatnonzero(inside)
    capacity = np.zeros((inside.size, 8), np.int32)
    for node in nodes:
        for d in range(8):
            if inside.flat[node + step[d] // maxflow.FIELDS]:
                capacity[node, d] = rng.integers(0, most)
    state = np.zeros((inside.size, maxflow.FIELDS), np.int32)
    state[:, :8] = capacity
    terminal = np.zeros(inside.size, np.int32)
    clock = 0
    for _ in range(3):
        change = rng.integers(-3, 4, len(nodes)) if small_change and clock else rng.integers(-20, 21, len(nodes))
        terminal[nodes] += change.astype(np.int32)
        clock = maxflow.cut(state.ravel(), step, nodes * maxflow.FIELDS, change.astype(np.int32), clock)
        from_source, to_sink = reachable(capacity, terminal, across)
        assert np.array_equal(state[:, maxflow.TREE] == maxflow.SOURCE, from_source)
        assert np.array_equal(state[:, maxflow.TREE] == maxflow.SINK, to_sink)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def load(shared_data: Path, name: str, stem: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read an image, and the reference's map and mask of it."""
    path = next((shared_data / "saliency" / name).rglob(f"{stem}.jpg"))
    saliency, mask = (
        np.asarray(cv2.imread(str(shared_data / "reference" / name / f"{stem}_{kind}.png"), cv2.IMREAD_GRAYSCALE))
        for kind in ("rc", "cut")
    )
    image = np.ascontiguousarray(np.asarray(cv2.imread(str(path)))[..., ::-1])
    return image, saliency.astype(np.float32) / 255, mask > 0


def test_masks_are_the_reference_s(shared_data: Path) -> None:
    """Given the authors' map, the mask is theirs, but for a few pixels where two cuts cost almost the same."""
    exact, fast = [], []
    for name, stems in PARITY.items():
        for stem in stems:
            image, saliency, expected = load(shared_data, name, stem)
            exact.append(overlap(saliency_cut(image, saliency), expected))
            fast.append(overlap(saliency_cut(image, saliency, quality="fast"), expected))
    assert np.median(exact) > 0.9999
    assert min(exact) > 0.98
    assert np.median(fast) > 0.95


def test_same_image_gives_the_same_mask(shared_data: Path) -> None:
    """The mask depends on nothing but the image and the map."""
    image, saliency, _ = load(shared_data, "msra1000_nomask", "0_0_272")
    first = saliency_cut(image, saliency)
    cv2.setRNGSeed(7)
    saliency_cut(image[::-1].copy(), saliency[::-1].copy())
    assert np.array_equal(first, saliency_cut(image, saliency))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (7, 5), (32, 32), (60, 90), (100, 130)])
@pytest.mark.parametrize("quality", ["exact", "fast"])
def test_any_image_and_map_gives_a_mask(shape: tuple[int, int], quality: str) -> None:
    """Constant, random and tiny images, with any map, give a mask of the image's size."""
    rng = np.random.default_rng(3)
    images = [np.zeros((*shape, 3), np.uint8), rng.integers(0, 256, (*shape, 3), dtype=np.uint8)]
    maps = [np.zeros(shape), np.ones(shape), rng.random(shape), rng.random(shape) > 0.5, np.eye(*shape)]
    for image in images:
        for saliency in maps:
            mask = saliency_cut(image, saliency.astype(np.float32), quality=quality)
            assert mask.shape == shape
            assert mask.dtype == bool


def test_constant_map_has_no_object() -> None:
    """Nothing stands out of a map that is the same everywhere."""
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    assert not saliency_cut(image, np.full((50, 60), 0.5, np.float32)).any()

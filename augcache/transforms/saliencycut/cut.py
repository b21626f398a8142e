"""SaliencyCut: GrabCut that starts from a saliency map and repeats with a tighter trimap.

Cheng, Mitra, Huang, Torr and Hu, "Global Contrast based Salient Region Detection", TPAMI 2015, section 5; Rother,
Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from augcache.transforms.saliencycut import energy, gmm, maxflow, trimap
from augcache.transforms.saliencycut.render import frame_size

LOW = 0.1  # saliency below it is background
HIGH = (0.9, 0.7, 0.5, 0.3)  # saliency above it is foreground; the next one is tried where the one before found nothing
OUTER, INNER = 4, 8  # most rounds: of trimaps, and of mixtures within one
SMALLEST_HALVED = 100  # pixels on a side; smaller images are cheap
FINE_STEPS = 3  # pixels on either side of the edge, at full size


@dataclass(frozen=True)
class _Scale:
    """What depends on the size of a pixel."""

    smoothness: float = 50.0  # weight of the links between neighbours
    margin: int = 20  # pixels around the salient part that a cut looks at
    steps: int = 5  # pixels that a trimap reaches on either side of a mask's edge
    outer_stop: int = 10  # changed pixels at which the rounds of trimaps end
    inner_stop: int = 50  # and those of mixtures


FULL = _Scale()
HALF = _Scale(smoothness=25.0, margin=10, steps=3, outer_stop=10, inner_stop=20)  # an edge has half the links


def saliency_cut(image: np.ndarray, saliency: np.ndarray, *, quality: str = "exact") -> np.ndarray:
    """Mask of the salient object.

    Parameters
    ----------
    image : uint8 (H, W, 3)
        RGB.
    saliency : float32 (H, W)
        0..1, such as the region contrast map.
    quality : str
        "exact" follows the published method at full size; "fast" does so at half the size, and at full size only
        around the edge of the mask.

    Returns
    -------
    bool (H, W)
        All False where no object was found.
    """
    if quality == "fast" and min(saliency.shape) >= SMALLEST_HALVED:
        return _coarse_to_fine(image, saliency)
    smooth = cv2.GaussianBlur(np.ascontiguousarray(saliency, np.float32), (9, 9), 0)
    return _cut(image, smooth, FULL)


def _coarse_to_fine(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """Cut the image at half its size, then the band around the edge of that mask at full size."""
    height, width = saliency.shape
    half = (width + 1) // 2, (height + 1) // 2
    small = cv2.resize(np.ascontiguousarray(saliency, np.float32), half, interpolation=cv2.INTER_AREA)
    coarse = _cut(cv2.resize(image, half, interpolation=cv2.INTER_AREA), cv2.GaussianBlur(small, (5, 5), 0), HALF)
    mask = np.asarray(cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)
    if not mask.any():
        return mask
    box = trimap.box_around(mask, FULL.margin)
    part = _Part(image[box], np.zeros((0, 0), np.float32), _frame(height, width)[box], FULL)
    mask[box] = part.improve(mask[box])
    return mask


def _cut(image: np.ndarray, smooth: np.ndarray, scale: _Scale) -> np.ndarray:
    """Mask from a blurred map."""
    mask = np.zeros(smooth.shape, bool)
    low, high = float(smooth.min()), float(smooth.max())
    if high - low <= np.finfo(np.float32).eps:
        return mask
    smooth = (smooth - np.float32(low)) / np.float32(high - low)
    frame = _frame(*smooth.shape)
    smooth[frame | (smooth <= np.float32(LOW))] = 0
    box = trimap.salient_box(smooth, scale.margin)
    if box is None:
        return mask
    part = _Part(image[box], smooth[box], frame[box], scale)
    for threshold in HIGH:
        found = part.cut(threshold)
        if found is not None:
            mask[box] = found
            break
    return mask


def _frame(height: int, width: int) -> np.ndarray:
    across, down = frame_size(height, width)
    frame = np.ones((height, width), bool)
    frame[down : height - down, across : width - across] = False
    return frame


class _Part:
    """The part of an image that is cut: its colours and its links, which all rounds share."""

    def __init__(self, image: np.ndarray, saliency: np.ndarray, frame: np.ndarray, scale: _Scale) -> None:
        scaled = np.divide(image, np.float32(255), dtype=np.float32)
        self.saliency, self.frame, self.scale = saliency, frame, scale
        self.colours, self.index = gmm.distinct(image)
        self.pixels = np.bincount(self.index).astype(np.float64)
        self.links = energy.links(cv2.cvtColor(scaled, cv2.COLOR_RGB2Lab), scale.smoothness)

    def cut(self, threshold: float) -> np.ndarray | None:
        """Outer rounds from the map; None where no object of at least 2 % of the part is left."""
        known = trimap.of_map(self.saliency, LOW, threshold)
        weight = self.saliency.astype(np.float64)
        before = np.zeros(self.saliency.shape, bool)
        most = gmm.COMPONENTS, gmm.COMPONENTS
        for _ in range(OUTER):
            values, most = self._inner(known, weight, most)
            found = trimap.largest_component(values, 0.02)
            if found is None:
                return None
            if np.count_nonzero(found != before) < self.scale.outer_stop:
                break
            before = found
            known = trimap.around(found, self.frame, self.scale.steps)
            weight = (known != trimap.BACKGROUND).astype(np.float64)
        return found

    def improve(self, mask: np.ndarray) -> np.ndarray:
        """Cut once more in a band around the edge of a mask."""
        known = trimap.around(mask, self.frame, FINE_STEPS)
        values, _ = self._inner(known, mask.astype(np.float64), (gmm.COMPONENTS, gmm.COMPONENTS), 1)
        found = trimap.largest_component(values, 0.0)
        return mask if found is None else found

    def _inner(
        self, known: np.ndarray, weight: np.ndarray, most: tuple[int, int], rounds: int = INNER
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Alternate between the mixtures and the minimum cut until the mask rests.

        `most` are the components that the two mixtures may have; one that lost some never gets them back.
        """
        state, nodes, terminal = energy.fold(self.links, known)
        step = maxflow.steps(known.shape[1] + 2)
        unknown = np.flatnonzero(known == trimap.UNKNOWN)
        index = self.index[unknown]
        seen = np.flatnonzero(np.bincount(index, minlength=len(self.colours)))
        table = np.zeros(len(self.colours), np.int32)
        mask = known.ravel() == trimap.FOREGROUND
        salient = np.bincount(self.index, weight.ravel())
        foreground = gmm.build(self.colours, salient, most[0])
        # The authors' program refits the foreground without weighing it anew: its shares stay those of the weight that
        # it was built with, so that a foreground that shrinks is preferred less, and one that grows more.
        total = salient.sum()
        limit, clock = most[1], 0
        units = np.zeros_like(terminal)
        for round_ in range(rounds):
            foreground = gmm.refine(self.colours, salient, foreground, total)
            background = gmm.build(self.colours, self.pixels - salient, limit)
            limit = len(background)
            table[seen] = energy.units(gmm.preference(self.colours[seen], background, foreground))
            units, before = table[index], units
            clock = maxflow.cut(state, step, nodes, units - before + (0 if round_ else terminal), clock)
            if round_:
                changed = energy.settle(state, nodes, unknown, index, mask, salient)
            else:
                mask[unknown] = state[nodes + maxflow.TREE] != maxflow.SINK
                changed = np.count_nonzero(mask != weight.ravel())
                salient = np.bincount(self.index, mask)
            if changed <= self.scale.inner_stop or not mask.any() or mask.all():
                break
        return mask.reshape(known.shape), (len(foreground), limit)

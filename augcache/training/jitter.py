"""The random part of the augmentation: new colours for the regions of an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from augcache.errors import RecipeError


@dataclass(frozen=True)
class Jitter:
    """Permute the colours of a palette among its regions, and shift each of them.

    Parameters
    ----------
    p : float
        Chance, 0 to 1, that a palette is changed at all.
    swap : float
        Share of the regions, 0 to 1, that trade colours among themselves.
    strength : float
        Largest shift of a channel as a share of the full range, 0 to 1; drawn uniformly and independently for
        each colour and channel, and clipped to 0..255.

    Notes
    -----
    A pure function of the palette and of numbers drawn outside, so that one generator reproduces a whole run.
    The numpy side of `augcache.PaletteJitter`, for loader workers and for code without torch.

    Examples
    --------
    >>> jitter = Jitter(strength=0.1)
    >>> palette = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    >>> jitter(palette, np.random.default_rng(0).random((3, 4))).shape
    (2, 3)
    """

    p: float = 1.0
    swap: float = 1.0
    strength: float = 0.1

    def __post_init__(self) -> None:
        for name in ("p", "swap", "strength"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise RecipeError(f"PaletteJitter {name}={value}: give a number from 0 to 1")

    @staticmethod
    def draws(regions: int) -> tuple[int, int]:
        """Shape of the uniform numbers that a palette of so many regions needs."""
        return regions + 1, 4

    def __call__(self, palette: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Return the new palette.

        Parameters
        ----------
        palette : ndarray
            uint8 (K, 3), RGB.
        uniform : ndarray
            Floats (K + 1, 4) in [0, 1): one row that decides on the whole, then a row for each region.

        Returns
        -------
        ndarray
            uint8 (K, 3); the palette itself where nothing is changed.
        """
        if uniform[0, 0] >= self.p:
            return palette
        order, shift = uniform[1:, 0], uniform[1:, 1:]
        if self.swap:
            chosen = np.argsort(order, kind="stable")[: round(self.swap * len(palette))]
            moved = palette.take(chosen, axis=0)
            if len(chosen) < len(palette):
                # A permutation of the chosen regions: their sorted positions take the colours in drawn order.
                palette = palette.copy()
                palette[np.sort(chosen)] = moved
            else:
                palette = moved
        if self.strength:
            largest = 255 * self.strength
            # Rounds half up. In place, and by ufuncs where numpy's functions wrap them: every sample passes here.
            shifted = shift * (2 * largest)
            shifted += 0.5 - largest
            shifted += palette
            np.maximum(shifted, 0.0, out=shifted)
            np.minimum(shifted, 255.0, out=shifted)
            palette = shifted.astype(np.uint8)
        return palette

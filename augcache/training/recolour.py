"""Colouring on a device: a batch of index maps and palettes becomes a batch of images. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from augcache.errors import SourceError
from augcache.records.run_length import Runs
from augcache.training.jitter import Jitter
from augcache.training.reused_memory import ReusedMemory

# Palettes are padded to as many rows, so that the default collation of a DataLoader stacks them.
PADDED = 256


def indexed(labels: np.ndarray | Runs, palette: np.ndarray, reused: ReusedMemory) -> dict[str, torch.Tensor]:
    """Make the "indexed" form of a record.

    Parameters
    ----------
    labels : ndarray or Runs
        uint8 or uint16 (H, W).
    palette : ndarray
        uint8 (K, 3).
    reused : ReusedMemory
        Gives the memory of the index map.

    Returns
    -------
    dict
        ``labels`` uint8 (H, W), or int32 where there are more than 256 regions; ``palette`` uint8 (P, 3), padded
        with zeros to P = 256 rows, or to K; ``regions`` int64 (), which is K.
    """
    padded = np.zeros((max(PADDED, len(palette)), 3), np.uint8)
    padded[: len(palette)] = palette
    if isinstance(labels, Runs):
        maps = labels.array(reused.empty(labels.shape))
    elif labels.dtype == np.uint8:
        maps = reused.empty(labels.shape)
        maps[...] = labels  # a copy: what a store gives is read-only, and torch has no read-only tensors
    else:
        maps = labels.astype(np.int32)
    return {
        "labels": torch.from_numpy(maps),
        "palette": torch.from_numpy(padded),
        "regions": torch.tensor(len(palette)),
    }


def collate_indexed(items: Sequence[tuple[Mapping[str, torch.Tensor], Any]]) -> tuple[dict[str, torch.Tensor], Any]:
    """Collate items of ``output="indexed"`` where some have more than 256 regions; else the default collation serves.

    Parameters
    ----------
    items : sequence of (dict, target)
        As `HashedSaliencyDataset` gives them.

    Returns
    -------
    (dict, targets)
        The dict's tensors stacked, palettes padded to the longest, labels of the widest type.
    """
    rows = max(len(item["palette"]) for item, _ in items)
    wide = any(item["labels"].dtype != torch.uint8 for item, _ in items)
    maps = [item["labels"].to(torch.int32) if wide else item["labels"] for item, _ in items]
    palettes = [pad(item["palette"], (0, 0, 0, rows - len(item["palette"]))) for item, _ in items]
    batch = {"labels": torch.stack(maps), "palette": torch.stack(palettes)}
    batch["regions"] = torch.stack([item["regions"] for item, _ in items])
    return batch, torch.utils.data.default_collate([target for _, target in items])


class PaletteJitter(nn.Module):
    """Re-colour: permute the colours of a palette among its regions, and shift each of them.

    Given to a dataset, it works in the loader's workers on one sample at a time. Called on a batch of
    ``output="indexed"``, it colours the whole batch on the batch's device. Both do the same with the same numbers.

    Parameters
    ----------
    p : float
        Chance, 0 to 1, that a palette is changed at all.
    swap : float
        Share of the regions, 0 to 1, that trade colours among themselves.
    strength : float
        Largest shift of a channel as a share of the full range, 0 to 1; drawn uniformly and independently for
        each colour and channel, and clipped to 0..255.

    Raises
    ------
    RecipeError
        If a value is out of range.

    Examples
    --------
    >>> jitter = PaletteJitter(strength=0.2)
    >>> batch = {"labels": torch.zeros(2, 8, 8, dtype=torch.uint8), "palette": torch.full((2, 4, 3), 9).byte(),
    ...          "regions": torch.tensor([4, 4])}
    >>> jitter(batch).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, p: float = 1.0, swap: float = 1.0, strength: float = 0.1) -> None:
        super().__init__()
        self.rule = Jitter(p, swap, strength)

    def forward(self, batch: Mapping[str, torch.Tensor], uniform: torch.Tensor | None = None) -> torch.Tensor:
        """Colour a batch.

        Parameters
        ----------
        batch : mapping
            ``labels`` (B, H, W), ``palette`` uint8 (B, P, 3), ``regions`` (B,), on one device.
        uniform : tensor, optional
            float (B, P + 1, 4) in [0, 1); default drawn from the device's generator.

        Returns
        -------
        tensor
            uint8 (B, 3, H, W), RGB.
        """
        if not isinstance(batch, Mapping) or not {"labels", "palette", "regions"} <= set(batch):
            raise SourceError("PaletteJitter colours batches of output='indexed': labels, palette and regions")
        labels, palette = batch["labels"], batch["palette"]
        if labels.ndim != 3:
            raise SourceError(f"PaletteJitter: labels of shape {tuple(labels.shape)}: give a batch, (B, H, W)")
        if uniform is None:
            uniform = torch.rand(len(palette), palette.shape[1] + 1, 4, device=palette.device)
        colours = self.palettes(palette, batch["regions"], uniform)
        # One gather with an index that is expanded, not copied, over the channels.
        index = labels.flatten(1).long()[:, None].expand(-1, 3, -1)
        return colours.transpose(1, 2).gather(2, index).reshape(len(labels), 3, *labels.shape[1:])

    def palettes(self, palette: torch.Tensor, regions: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        """Return new palettes, uint8 (B, P, 3); the padding keeps its colours."""
        rule, count = self.rule, palette.shape[1]
        rows = torch.arange(count, device=palette.device)
        inside = rows < regions[:, None]
        colours = palette
        if rule.swap:
            order = torch.where(inside, uniform[:, 1:, 0], 2.0).argsort(dim=1, stable=True)
            # Halves round to even, as Python's round() does on the numpy side.
            chosen = rows < torch.round(rule.swap * regions.double())[:, None]
            # The chosen regions' sorted positions take their colours in drawn order; row `count` is for the rest.
            targets = torch.where(chosen, order, count).sort(dim=1).values
            moved = colours.gather(1, order[:, :, None].expand(-1, -1, 3))
            spare = pad(colours, (0, 0, 0, 1))
            colours = spare.scatter(1, targets[:, :, None].expand(-1, -1, 3), moved)[:, :count]
        if rule.strength:
            largest = 255 * rule.strength
            shifted = colours + (uniform[:, 1:, 1:] * (2 * largest) + (0.5 - largest))
            colours = shifted.clamp(0, 255).to(torch.uint8)
        changed = (uniform[:, :1, :1] < rule.p) & inside[:, :, None]
        return torch.where(changed, colours, palette)

    def extra_repr(self) -> str:
        """Parameters, for ``repr``."""
        return f"p={self.rule.p}, swap={self.rule.swap}, strength={self.rule.strength}"

"""Batches in shared memory that is used again. Imports torch."""

from __future__ import annotations

import math
import os
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate, get_worker_info
from torch.utils.data._utils.collate import collate, collate_tensor_fn, default_collate_fn_map

LEAST = 1 << 18  # bytes of a batch; below that the system's fresh memory costs next to nothing
HEAD = 64  # bytes ahead of a batch: the first says whether somebody has it; the rest keeps the batch aligned
SPARE = 4  # free blocks that a worker keeps: as many as a DataLoader fetches ahead, and two
FREE, TAKEN = 0, 1


class Collate:
    """What ``torch.utils.data.default_collate`` does, into memory that earlier batches have left; for ``DataLoader``.

    A loader's worker hands each batch over in fresh shared memory, and the system gives that out page by page, each
    zeroed. Here a worker keeps its blocks, and fills one again as soon as the training process has dropped the batch
    in it and everything made of it: slices, arrays, storages. A batch that is kept keeps its block.

    Notes
    -----
    Works for any dataset, not for augcache's alone. Without workers, and for anything but dense tensors on the CPU of
    256 KiB a batch or more, it is the default collation.

    Examples
    --------
    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader(HashedSaliencyDataset("images", output="tensor"), 2, num_workers=2, collate_fn=Collate())
    >>> next(iter(loader))[0].shape
    torch.Size([2, 3, 60, 80])
    """

    def __init__(self) -> None:
        self._blocks: list[torch.Tensor] = []

    def __call__(self, items: list[Any]) -> Any:
        """Collate; in a worker, give what pickles into the training process as the batch."""
        if get_worker_info() is None:
            return default_collate(items)
        return collate(items, collate_fn_map={**default_collate_fn_map, torch.Tensor: self._stack})

    def _stack(self, tensors: list[torch.Tensor] | tuple[torch.Tensor, ...], **rest: Any) -> Any:
        first = tensors[0]
        size = len(tensors) * first.nbytes
        if first.layout != torch.strided or first.is_nested or first.device.type != "cpu" or size < LEAST:
            return collate_tensor_fn(tensors, **rest)
        block = self._block(HEAD + size)
        batch = _Batch(block, first.dtype, (len(tensors), *first.shape))
        torch.stack(tensors, out=block[HEAD : HEAD + size].view(first.dtype).view(batch.shape))
        block[0] = TAKEN
        return batch

    def _block(self, size: int) -> torch.Tensor:
        """Return a block that nobody has; what the training process may be reading is never touched."""
        free: list[torch.Tensor] = []
        taken: list[torch.Tensor] = []
        for each in self._blocks:  # looked at once: the training process may free one at any moment
            (free if each[0] == FREE else taken).append(each)
        if not self._blocks:
            # A worker ends without taking its objects apart; files of torch's "file_system" sharing would stay.
            Finalize(None, self._drop, exitpriority=0)
        block = next((each for each in free if len(each) >= size), None)
        block = _shared(size) if block is None else block
        self._blocks = [*taken, block, *[each for each in free if each is not block][:SPARE]]
        return block

    def _drop(self) -> None:
        self._blocks = []

    def __reduce__(self) -> tuple[type[Collate], tuple[()]]:
        return Collate, ()


def _shared(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call, no-any-return]  # torch's


@dataclass(frozen=True)
class _Batch:
    """A batch on its way: pickles as a handle of its block, and arrives as a tensor."""

    block: torch.Tensor
    dtype: torch.dtype
    shape: tuple[int, ...]

    def __reduce__(self) -> Any:
        return _receive, (self.block, self.dtype, self.shape)


def _receive(block: torch.Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    """Make the tensor of a block, which marks the block as free once nothing holds the tensor's memory any more."""
    memory = block.numpy()
    array = memory[HEAD:]  # the one object that the tensor's storage holds, and nothing else does
    tensor = torch.from_numpy(array)
    weakref.finalize(array, _release, memory, os.getpid()).atexit = False
    return tensor[: math.prod(shape) * dtype.itemsize].view(dtype).view(shape)


def _release(memory: np.ndarray, process: int, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
    if not is_ending() and os.getpid() == process:  # a forked child's copy is not the one that counts
        memory[0] = FREE

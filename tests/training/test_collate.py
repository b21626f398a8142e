"""Batches in shared memory that is used again: what they hold is never another's."""

import gc
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from augcache.training import collate
from augcache.training.collate import FREE, SPARE, TAKEN, Collate

HERE = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # for processes that import this file


class Numbers(Dataset):
    """Item k: two views full of k, a dict, a number and a text."""

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int):
        views = [torch.full((3, 128, 128), index, dtype=torch.uint8), torch.full((128, 128), index / 7)]
        return views, {"map": torch.full((256, 256), -index, dtype=torch.int16), "few": torch.tensor(index)}, index, "x"


def flat(batch) -> list[torch.Tensor]:
    (first, second), maps, numbers, _ = batch
    return [first, second, maps["map"], maps["few"], numbers]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_batch_is_what_the_default_gives(start):
    """Values, shapes, types and nesting, for every kind of element; plain tensors come out."""
    loader = DataLoader(
        Numbers(), 20, num_workers=2, collate_fn=Collate(), multiprocessing_context=start, persistent_workers=True
    )
    for _ in range(2):
        for batch, plain in zip(loader, DataLoader(Numbers(), 20), strict=True):
            assert batch[3] == plain[3]
            for got, expected in zip(flat(batch), flat(plain), strict=True):
                assert type(got) is torch.Tensor
                assert got.dtype == expected.dtype
                assert torch.equal(got, expected)


def test_batches_that_are_kept_stay_as_they_are():
    """Over many epochs, some left in the middle, whatever is kept for however long holds what it held."""
    loader = DataLoader(
        Numbers(), 8, num_workers=2, collate_fn=Collate(), persistent_workers=True, shuffle=True, prefetch_factor=2
    )
    rng, kept = random.Random(0), []
    for epoch in range(12):
        for number, (views, maps, indices, _) in enumerate(loader):
            assert (views[0] == indices[:, None, None, None]).all()
            assert (maps["map"] == -indices[:, None, None]).all()
            if rng.random() < 0.4:
                kept.append((views[0][:, :1], maps["map"].numpy(), indices))
            if kept and rng.random() < 0.3:
                kept.pop(rng.randrange(len(kept)))
            for part, array, own in kept:
                assert (part == own[:, None, None, None]).all()
                assert (array == -own.numpy()[:, None, None]).all()
            if epoch % 3 == 2 and number == 2:
                break


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
def test_epochs_leave_no_shared_memory_behind(strategy):
    """However torch shares memory, what the workers of an epoch had is gone once they and their batches are."""
    code = f"""
import torch
from test_collate import *
torch.multiprocessing.set_sharing_strategy({strategy!r})
def files(): return [name for name in os.listdir("/dev/shm") if name.split("_")[1:2] in [[str(n)] for n in workers]]
workers, loader = [], DataLoader(Numbers(), 8, num_workers=2, collate_fn=Collate())
for _ in range(3):
    epoch = iter(loader)
    workers += [worker.pid for worker in epoch._workers]
    for views, maps, indices, _ in epoch: assert (views[0] == indices[:, None, None, None]).all()
    del epoch, views, maps, indices
    gc.collect()
    print(len(files()))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(HERE)},
    )  # fmt: skip  # one call
    assert ended.stdout == "0\n0\n0\n", ended.stderr


@pytest.fixture
def send(monkeypatch):
    """Collate as in a worker, and receive as in the training process, in one process."""
    monkeypatch.setattr(collate, "get_worker_info", object)

    def send(function: Collate, value: int, size: int = 1 << 19) -> torch.Tensor:
        batch = function([torch.full((size // 2,), value, dtype=torch.uint8)] * 2)
        return pickle.loads(ForkingPickler.dumps(batch))

    return send


def states(function: Collate) -> list[int]:
    return [int(block[0]) for block in function._blocks]


def test_a_block_is_filled_again_once_its_batch_is_dropped(send):
    """One block serves a training that drops each batch; one that keeps batches gets more of them."""
    function = Collate()
    for value in range(20):
        assert (send(function, value) == value).all()
    assert len(states(function)) == 1
    kept = [send(function, value) for value in range(5)]
    assert states(function).count(TAKEN) == 5
    assert all((batch == value).all() for value, batch in enumerate(kept))
    del kept
    send(function, 0)
    assert len(states(function)) <= 1 + SPARE


@pytest.mark.parametrize(
    "derive",
    [
        lambda batch: batch[1:, 5],
        lambda batch: batch.numpy()[0],
        lambda batch: batch.untyped_storage(),
        torch.from_dlpack,
        np.from_dlpack,
        lambda batch: batch.view(torch.int32).t(),
        lambda batch: memoryview(batch.numpy()),
    ],
)
def test_what_is_made_of_a_batch_holds_its_block(send, derive):
    """Slices, arrays, storages and exports keep the block from being filled again."""
    function = Collate()
    kept = derive(send(function, 1))
    gc.collect()
    assert states(function) == [TAKEN]
    send(function, 2)
    assert states(function).count(TAKEN) == 1
    del kept
    gc.collect()
    assert set(states(function)) == {FREE}


def test_a_forked_child_gives_nothing_back(send):
    """A process that the training forks may drop its copy of a batch; the training still has it."""
    function = Collate()
    batch = send(function, 3)

    def drop() -> None:
        nonlocal batch
        del batch
        gc.collect()
        os._exit(0)

    child = multiprocessing.get_context("fork").Process(target=drop)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert states(function) == [TAKEN]
    assert (batch == 3).all()


def test_sizes_may_change(send):
    """A larger batch gets a larger block, a smaller one fits into a larger."""
    function = Collate()
    for size in (1 << 19, 1 << 20, 1 << 19, 1 << 18):
        assert send(function, 9, size).numel() == size
    assert sorted(map(len, function._blocks)) == [(1 << 19) + collate.HEAD, (1 << 20) + collate.HEAD]


def test_what_it_is_not_for_is_collated_as_ever(send):
    """Small, sparse and uneven tensors: the default's batch, or the default's error."""
    small = Collate()([torch.ones(3), torch.zeros(3)])
    assert torch.equal(small, torch.tensor([[1.0] * 3, [0.0] * 3]))
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        Collate()([torch.zeros(1 << 18), torch.zeros(5)])
    with pytest.raises(RuntimeError, match="sparse"):
        Collate()([torch.zeros(1 << 18).to_sparse()])


def test_without_workers_it_is_the_default():
    """In the training process itself nothing is shared."""
    items = [Numbers()[index] for index in range(20)]
    for got, expected in zip(flat(Collate()(items)), flat(default_collate(items)), strict=True):
        assert torch.equal(got, expected)
        assert not got.is_shared()

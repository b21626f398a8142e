"""Memory that is lent: never to two at once, and again once it is free."""

import copy
import gc
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import write_image
from hypothesis import given, settings
from hypothesis import strategies as st

from augcache import HashedSaliencyDataset, Recipe, build
from augcache.training.reused_memory import KEPT, ReusedMemory


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from([(3, 4, 5), (60,), (3, 4, 4)])), max_size=60)
)
def test_no_memory_is_lent_twice(steps):
    """Arrays that are held keep what was written, in whatever order others come and go."""
    reused, held = ReusedMemory(), []
    for number, (drop, which, shape) in enumerate(steps):
        if drop and held:
            held.pop(which % len(held))
        else:
            array = reused.empty(shape)
            array[...] = number
            held.append((torch.from_numpy(array), number))
        for tensor, written in held:
            assert (tensor == written).all()


def test_memory_comes_again():
    """A second batch lies where the first lay, once that is dropped; while it is held, elsewhere."""
    reused = ReusedMemory()
    first = [torch.from_numpy(reused.empty((3, 8, 8))) for _ in range(5)]
    places = {tensor.data_ptr() for tensor in first}
    others = [torch.from_numpy(reused.empty((3, 8, 8))) for _ in range(5)]
    assert places.isdisjoint(tensor.data_ptr() for tensor in others)
    del first
    again = [torch.from_numpy(reused.empty((3, 8, 8))) for _ in range(5)]
    assert {tensor.data_ptr() for tensor in again} == places


@pytest.mark.parametrize(
    "derive",
    [
        lambda tensor: tensor[1:, 2:],
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.numpy()[0],
        lambda tensor: tensor.permute(1, 2, 0).unsqueeze(0),
        lambda tensor: tensor.untyped_storage(),
        torch.from_dlpack,
        np.from_dlpack,
        lambda tensor: memoryview(tensor.numpy()),
        lambda tensor: torch.utils.data.default_convert({"x": [tensor]})["x"][0],
    ],
)
def test_what_is_made_of_a_tensor_holds_its_memory(derive):
    """Slices, arrays, storages and exports of a sample keep it from being lent again."""
    reused = ReusedMemory()
    array = reused.empty((3, 8, 8))
    place = array.ctypes.data
    kept = derive(torch.from_numpy(array))
    del array
    gc.collect()
    assert reused.empty((3, 8, 8)).ctypes.data != place
    del kept
    gc.collect()
    assert place in {reused.empty((3, 8, 8)).ctypes.data, reused.empty((3, 8, 8)).ctypes.data}


def test_what_it_keeps_is_bounded():
    """Memory of an earlier size, and of more than the bound, is given back to the system."""
    reused = ReusedMemory()
    held = [reused.empty((KEPT // 4,)) for _ in range(7)]
    del held
    assert sum(map(len, reused._free)) <= KEPT
    reused.empty((3, 8, 8))
    assert sum(map(len, reused._free)) == 3 * 8 * 8


def test_threads_get_memory_of_their_own():
    """Arrays that threads fill at the same time do not mix."""
    reused, wrong = ReusedMemory(), []

    def work(number: int) -> None:
        for _ in range(300):
            held = [reused.empty((64, 64)) for _ in range(3)]
            for array in held:
                array[...] = number
            wrong.extend(number for array in held if (array != number).any())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_outlives_the_interpreter_says_nothing():
    """Samples that other modules still hold when the process ends print no error."""
    code = """
import builtins, ctypes, sys, torch
from augcache.training.reused_memory import ReusedMemory
reused = ReusedMemory()
module = sys.modules["augcache.training.reused_memory"]
builtins.kept, torch.kept, module.kept = (torch.from_numpy(reused.empty((3,))) for _ in "abc")
ring = [torch.from_numpy(reused.empty((3,)))]
ring.append(ring)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""


def test_copies_share_nothing():
    """Reused memory that is pickled or copied, as a dataset for spawned workers is, starts empty."""
    reused = ReusedMemory()
    reused.empty((3, 8, 8))
    for other in (pickle.loads(pickle.dumps(reused)), copy.deepcopy(reused)):
        assert not other._free
        assert not other._lent


@pytest.mark.parametrize("output", ["tensor", "indexed"])
def test_samples_that_are_kept_stay_as_they_are(tmp_path, output):
    """Items of several epochs in a list are all what they were when they came."""
    for index in range(6):
        write_image(tmp_path / f"p/{index}.png", index)
    build(tmp_path / "p", Recipe("toy:toy"), workers=0)
    dataset = HashedSaliencyDataset(tmp_path / "p", output=output, jitter=None)
    pick = (lambda item: item[0]["labels"]) if output == "indexed" else (lambda item: item[0])
    expected = [pick(dataset[index]).clone() for index in range(6)]
    kept = [*map(pick, dataset.__getitems__(list(range(6)))), *(pick(dataset[index]) for index in range(6))]
    for tensor, good in zip(kept, expected * 2, strict=True):
        assert torch.equal(tensor, good)

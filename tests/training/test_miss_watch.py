"""A look-up that never hits says so, once, whatever the number of workers, and says what was tried."""

import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from augcache import HashedSaliencyDataset, Recipe, SaliencyLookup, build
from augcache.errors import MissError
from augcache.training.misses import PATIENCE

TOY = Recipe("toy:toy")


@pytest.fixture
def store(images):
    return build(images, TOY, workers=0).store


def bgr(image):
    return image[..., ::-1].copy()


CHANGES = {
    "channels reversed (BGR for RGB)": bgr,
    "mirrored": lambda image: cv2.flip(image, 1),
    "turned by 180 degrees": lambda image: cv2.rotate(image, cv2.ROTATE_180),
    "turned to the left": lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    "turned to the right": lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


class Base:
    """The images of a folder over and over, changed, or as they are for every `hits`-th of them."""

    def __init__(self, folder, change, length, hits=0):
        self.images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(folder).rglob("*.png"))]
        self.change, self.length, self.hits = change, length, hits

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        image = self.images[index % len(self.images)]
        return image if self.hits and index % self.hits == 0 else self.change(image)


def brighter(image):
    return cv2.add(image, 1)


def cropped(image):
    return image[:16, :16].copy()


@pytest.mark.parametrize("change", CHANGES)
def test_the_warning_names_the_change_that_hits(images, store, change):
    """Arrays in BGR, as OpenCV reads them, or images that were flipped or turned too early."""
    dataset = HashedSaliencyDataset(Base(images, CHANGES[change], PATIENCE + 50), store=store, on_miss="original")
    with pytest.warns(UserWarning, match="every image so far missed") as caught:
        assert len([dataset[index] for index in range(len(dataset))]) == len(dataset)
    (warning,) = caught
    assert f"of 20 of them, {change}: 20 hit; give the look-up the images as the build had them" in str(warning.message)
    assert dataset.misses == len(dataset)


@pytest.mark.parametrize("change", CHANGES)
def test_an_error_names_it_at_the_first_miss(images, store, change):
    """Where a miss is an error there is nothing to wait for."""
    with pytest.raises(MissError, match="every image so far missed") as caught:
        SaliencyLookup(store)(Base(images, CHANGES[change], 1)[0])
    assert f"of 1 of them, {change}: 1 hit" in str(caught.value)


def test_pixels_of_another_decoder_are_asked_for(images, store):
    """Where no change helps and the sizes are right, the decoder is what differs, or the colours."""
    dataset = HashedSaliencyDataset(Base(images, brighter, PATIENCE), store=store, on_miss="original")
    with pytest.warns(UserWarning, match="none hits with channels reversed .*another decoder .*fast DCT"):
        _ = [dataset[index] for index in range(PATIENCE)]


SCRIPT = """
import sys, warnings
from torch.utils.data import DataLoader
from test_miss_watch import *
images, store, change, length, hits, context, epochs = sys.argv[1:]
if __name__ == "__main__":
    base = Base(images, globals()[change], int(length), int(hits))
    dataset = HashedSaliencyDataset(base, store=store, on_miss="original", transform=tiny)
    loader = DataLoader(dataset, batch_size=10, num_workers=2, multiprocessing_context=context)
    for epoch in range(int(epochs)):
        assert sum(map(len, loader)) == int(length)
    print(dataset.misses)
"""


def tiny(image):
    """Keep the loader's work small."""
    return torch.zeros(1)


def run(*arguments):
    """Run a training script with two workers; returns what it counted, and its warnings."""
    here = Path(__file__).parent
    script = f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n{SCRIPT}"
    out = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert out.returncode == 0, out.stderr
    return int(out.stdout), [line for line in out.stderr.splitlines() if "s.augcache: " in line]


@pytest.mark.parametrize(("context", "epochs"), [("fork", 2), pytest.param("spawn", 1, marks=pytest.mark.slow)])
def test_workers_count_together_and_one_warns(images, store, context, epochs):
    """Two workers, each with too few images to tell by itself: one warning over all epochs, every miss counted."""
    misses, said = run(images, store, "bgr", PATIENCE + 50, 0, context, epochs)
    assert misses == epochs * (PATIENCE + 50)
    assert len(said) == 1, said
    assert "every image so far missed" in said[0]
    assert "channels reversed (BGR for RGB): 20 hit" in said[0]


def test_a_few_hits_do_not_hide_that_nearly_all_miss(images, store):
    """One in a hundred hits by chance; over a thousand images, in two workers, it is said once."""
    misses, said = run(images, store, "brighter", 1200, 100, "fork", 2)
    assert misses == 2 * (1200 - 12)
    assert len(said) == 1, said
    assert "nearly all missed" in said[0]


def test_a_crop_stops_a_training_with_workers(images, store):
    """The size that the store does not have is an error after some misses, which comes out of the loader."""
    dataset = HashedSaliencyDataset(Base(images, cropped, 400), store=store, on_miss="original")
    with pytest.raises(MissError, match=r"every image so far missed .* of 16x16"):
        _ = list(DataLoader(dataset, batch_size=10, num_workers=2))


@pytest.mark.parametrize("hits", [2, 30])
def test_a_store_of_some_of_the_images_is_not_suspected(images, store, hits):
    """Where a part of the images is in the store, as it was meant, nothing is said."""
    dataset = HashedSaliencyDataset(Base(images, brighter, 1500, hits), store=store, on_miss="original")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len([dataset[index] for index in range(1500)]) == 1500
    assert dataset.misses == 1500 - len(range(0, 1500, hits))


def test_misses_of_a_folder_are_counted(images, store):
    """New and changed files of a folder, in two workers; known ones are none."""
    from conftest import write_image

    for seed in range(4):
        write_image(images / f"b/new{seed}.png", 100 + seed)
    dataset = HashedSaliencyDataset(images, on_miss="original", output="tensor")
    assert dataset.misses == 0
    assert len(list(DataLoader(dataset, num_workers=2))) == 10
    assert dataset.misses == 4
    lookup = SaliencyLookup(store, on_miss="original")
    _ = lookup(np.zeros((20, 24, 3), np.uint8))
    assert lookup.misses == 1


def test_a_system_without_shared_memory_still_looks_up(images, monkeypatch):
    """A container without /dev/shm costs the common count, and nothing else."""
    build(images, TOY, workers=0)

    def refuse(_):
        raise RuntimeError("unable to open shared memory object")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    dataset = HashedSaliencyDataset(images)
    assert len(list(dataset)) == 6
    assert dataset.misses == 0

"""A training that is resumed in the middle of an epoch goes on with the colours that would have come."""

import pickle

import numpy as np
import pytest
import torch

from augcache import HashedSaliencyDataset, Recipe

TOY = Recipe("toy:toy")


def wrapped(built):
    from PIL import Image

    return [(np.array(Image.open(path).convert("RGB")), 0) for path in sorted(built.rglob("*.png"))]


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["folder", "wrapped"])
def test_a_stateful_loader_resumes_the_colours(built, kind, workers, every):
    """Stopped after two of six batches and loaded in a fresh loader: the other four are the same, bit for bit."""
    loaders = pytest.importorskip("torchdata.stateful_dataloader")

    def loader():
        if kind == "folder":
            dataset = HashedSaliencyDataset(built, p=0.5, output="tensor")
        else:
            dataset = HashedSaliencyDataset(wrapped(built), store=built.with_suffix(".augcache"), p=0.5)
        return loaders.StatefulDataLoader(
            dataset, batch_size=1, shuffle=True, num_workers=workers, snapshot_every_n_steps=every
        )

    torch.manual_seed(5)
    first = loader()
    batches, state = [], None
    for number, (image, _) in enumerate(first):
        batches.append(image)
        if number == 1:
            state = pickle.dumps(first.state_dict())
    torch.manual_seed(99)  # another process, which was seeded otherwise
    second = loader()
    second.load_state_dict(pickle.loads(state))
    rest = [image for image, _ in second]
    assert len(rest) == 4
    assert all(torch.equal(image, other) for image, other in zip(batches[2:], rest, strict=True))


def test_the_state_is_that_of_the_generator(built):
    """What `state_dict` gives is small, pickles, and brings the same draws back."""
    dataset = HashedSaliencyDataset(built, output="array")
    state = dataset.state_dict()
    expected = [dataset[0][0] for _ in range(3)]
    assert not np.array_equal(dataset[0][0], expected[0])
    dataset.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert all(np.array_equal(dataset[0][0], image) for image in expected)

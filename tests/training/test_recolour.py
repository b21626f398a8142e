import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from augcache import HashedSaliencyDataset, PaletteJitter, Recipe, build
from augcache.errors import RecipeError, SourceError
from augcache.training.jitter import Jitter
from augcache.training.recolour import collate_indexed, indexed
from augcache.training.reused_memory import ReusedMemory
from augcache.training.views import segments


@pytest.mark.parametrize("regions", [1, 2, 7, 300])
def test_jitter_permutes_and_shifts_within_bounds(regions):
    """Without strength the colours are permuted; with it each moves by at most that much."""
    palette = np.random.default_rng(0).integers(0, 256, (regions, 3), dtype=np.uint8)
    uniform = np.random.default_rng(1).random(Jitter.draws(regions))
    swapped = Jitter(strength=0)(palette, uniform)
    assert sorted(map(tuple, swapped)) == sorted(map(tuple, palette))
    assert regions < 7 or not np.array_equal(swapped, palette)
    shifted = Jitter(swap=0, strength=0.2)(palette, uniform)
    assert shifted.dtype == np.uint8
    assert np.abs(shifted.astype(int) - palette).max() <= 51
    assert Jitter(p=0)(palette, uniform) is palette


def test_jitter_refuses_what_is_out_of_range():
    """A strength of 25 is a mistake for 0.25 or 25 levels, and says so."""
    with pytest.raises(RecipeError, match="strength=25"):
        PaletteJitter(strength=25)


@pytest.mark.parametrize("options", [{}, {"swap": 0.5}, {"p": 0.5}, {"strength": 0}, {"swap": 0, "strength": 0.4}])
def test_a_batch_on_a_device_gets_the_colours_of_the_numpy_path(options):
    """The same numbers give the same images, whether a worker or a device colours them."""
    rng = np.random.default_rng(0)
    counts = [1, 5, 40, 256, 300]
    maps = [rng.integers(0, k, (17, 13)).astype(np.uint8 if k <= 256 else np.uint16) for k in counts]
    palettes = [rng.integers(0, 256, (k, 3), dtype=np.uint8) for k in counts]
    items = [(indexed(m, p, ReusedMemory()), k) for m, p, k in zip(maps, palettes, counts, strict=True)]
    batch, targets = collate_indexed(items)
    assert targets.tolist() == counts
    uniform = torch.rand(len(counts), batch["palette"].shape[1] + 1, 4, generator=torch.Generator().manual_seed(0))
    images = PaletteJitter(**options)(batch, uniform)
    assert images.dtype == torch.uint8
    for number, (labels, palette) in enumerate(zip(maps, palettes, strict=True)):
        expected = segments(
            labels, Jitter(**options)(palette, uniform[number, : len(palette) + 1].numpy()), planar=True
        )
        assert np.array_equal(images[number].numpy(), expected)


def test_indexed_batches_come_through_a_loader(images):
    """Workers send maps and palettes, the default collation stacks them, and the batch is coloured at once."""
    build(images, Recipe("toy:toy"), workers=0)
    plain = HashedSaliencyDataset(images, output="tensor", jitter=None)
    dataset = HashedSaliencyDataset(images, output="indexed")
    [(batch, targets)] = DataLoader(dataset, batch_size=6, num_workers=2)
    assert targets.tolist() == dataset.targets
    still = PaletteJitter(p=0)(batch)
    assert torch.equal(still, torch.stack([image for image, _ in plain]))
    torch.manual_seed(1)
    first = PaletteJitter()(batch)
    torch.manual_seed(1)
    assert torch.equal(PaletteJitter()(batch), first)
    assert not torch.equal(first, still)


def test_a_wrapped_dataset_gives_index_maps_too(images):
    """Images that come from elsewhere, such as small copies, are coloured on the device as well; labels pass."""
    store = build(images, Recipe("toy:toy"), workers=0).store
    arrays = [np.asarray(image) for image, _ in HashedSaliencyDataset(images, p=0, output="array")]
    wrapped = HashedSaliencyDataset([(array, 5) for array in arrays], store=store, output="indexed")
    [(batch, targets)] = DataLoader(wrapped, batch_size=6)
    assert targets.tolist() == [5] * 6
    plain = HashedSaliencyDataset(images, output="tensor", jitter=None)
    assert torch.equal(PaletteJitter(p=0)(batch), torch.stack([image for image, _ in plain]))


@pytest.mark.parametrize("options", [{"view": "cut"}, {"p": 0.5}, {"on_miss": "original"}])
def test_what_cannot_be_indexed_is_refused(images, options):
    """An original has no index map, so that it cannot come in that form."""
    build(images, Recipe("toy:toy"), workers=0)
    with pytest.raises(RecipeError, match="output='indexed' needs"):
        HashedSaliencyDataset(images, output="indexed", **options)


def test_misuse_of_the_module_is_named():
    """An image, or one sample where a batch is meant, gets a clear error."""
    with pytest.raises(SourceError, match="output='indexed'"):
        PaletteJitter()(torch.zeros(2, 3, 8, 8))
    with pytest.raises(SourceError, match="give a batch"):
        PaletteJitter()(indexed(np.zeros((4, 4), np.uint8), np.zeros((1, 3), np.uint8), ReusedMemory()))

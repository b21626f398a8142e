import struct

import numpy as np
import pytest
import torch
import zstandard
from conftest import sealed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augcache import HashedSaliencyDataset, Recipe, Store, build
from augcache.errors import CorruptError
from augcache.records import codec
from augcache.records.expand import AT_ONCE, fill
from augcache.records.run_length import LONGEST, WORTH, Runs, runs_of
from augcache.training.views import segments, segments_image

# Runs around the lengths where the code takes another way: what is written at once, and what a byte holds.
lengths = st.one_of(
    st.integers(1, 20), st.sampled_from([AT_ONCE, LONGEST]).flatmap(lambda n: st.integers(n - 1, n + 1))
)
pieces = st.lists(st.tuples(st.integers(0, 255), lengths), min_size=1, max_size=60)


def spread(values, lengths):
    return np.repeat(np.array(values, np.uint8), lengths)


@given(pieces)
def test_an_array_comes_back_from_its_runs(pieces):
    """Every element is where it was, however long the runs; arrays of many short runs are left alone."""
    array = spread(*zip(*pieces, strict=True))
    runs = runs_of(array)
    changes = 1 + np.count_nonzero(np.diff(array.astype(int)))
    assert (runs is None) == (changes * WORTH > len(array))
    if runs is not None:
        assert np.array_equal(runs.array(), array)


@given(pieces, st.integers(1, 256), st.data())
def test_runs_are_coloured_as_the_map_is(pieces, regions, data):
    """Planes, interleaved arrays and PIL images are `palette[labels]`, whether made from the map or from its runs."""
    array = spread([value % regions for value, _ in pieces], [length for _, length in pieces])
    labels = np.resize(array, (data.draw(st.integers(1, 9)), len(array)))
    runs = runs_of(labels)
    palette = np.random.default_rng(0).integers(0, 256, (regions, 3), dtype=np.uint8)
    for given_ in (labels, *([] if runs is None else [runs])):
        assert np.array_equal(segments(given_, palette), palette[labels])
        assert np.array_equal(segments(given_, palette, planar=True), palette[labels].transpose(2, 0, 1))
        assert np.array_equal(np.asarray(segments_image(given_, palette)), palette[labels])


@settings(max_examples=400)
@given(pieces, st.integers(1, 256), st.integers(0, 2000), st.sampled_from([np.uint8, np.uint32]), st.integers(1, 3))
def test_forged_runs_are_written_nowhere_else(pieces, table, size, dtype, count):
    """Runs that do not fit the planes or the tables are told, and the memory around the planes stays as it was."""
    values, longs = (np.array(each) for each in zip(*pieces, strict=True))
    stored = np.minimum(longs, LONGEST)
    memory = np.full((count + 2, size + 2 * LONGEST), 77, dtype)
    tables = np.arange(count * table, dtype=dtype).reshape(count, table)
    planes = memory.reshape(-1)[LONGEST : LONGEST + count * size].reshape(count, size)
    fits = fill(values.astype(np.uint8), (stored - 1).astype(np.uint8), tables, planes)
    assert fits == (stored.sum() == size and values.max() < table)
    if fits:
        assert np.array_equal(planes, tables[:, spread(values, stored)])
    planes[...] = 77
    assert (memory == 77).all()


def record_of(array, name="labels"):
    return codec.decode(codec.encode({name: array, "palette": np.zeros((256, 3), np.uint8)}))


def test_index_maps_are_stored_as_runs_and_noise_is_not():
    """What decides is the array alone, so that a record has the same bytes wherever it is made."""
    flat = np.arange(64, dtype=np.uint8).repeat(64).reshape(64, 64)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert isinstance(record_of(flat).runs("labels"), Runs)
    for array in (noise, flat.astype(np.uint16)):
        assert record_of(array).runs("labels") is None
    assert record_of(flat > 9, "x").runs("x") is None
    raw = codec.decode(codec.encode({"labels": flat}, level=0))
    assert raw.runs("labels") is None
    for record in (record_of(flat), raw):
        assert np.array_equal(record["labels"], flat)
        assert not record["labels"].flags.writeable


def forged(shape, code, plain):
    """Make a record of one array, as runs, with a right checksum."""
    payload = zstandard.ZstdCompressor().compress(plain)
    header = struct.pack(f"<BBBI{len(shape)}I", code, codec.RUNS, len(shape), len(payload), *shape)
    return sealed(b"\1\1x" + header + payload)


@pytest.mark.parametrize(
    ("shape", "code", "plain"),
    [
        ((10,), 2, bytes([1, 2, 4, 5])),  # 5 and 6 elements for 10
        ((12,), 2, bytes([1, 2, 4, 5])),
        ((10,), 2, bytes([1, 2, 4])),  # a value without its length
        ((10,), 2, b""),
        ((10, 0), 2, bytes(2)),
        ((10,), 2, bytes(22)),  # more runs than elements
        ((1 << 31,), 2, bytes(8)),  # a few bytes that claim two gigabytes
        ((1 << 31, 1 << 31), 2, bytes(8)),
        ((8,), 1, bytes(2)),  # bool
        ((8,), 3, bytes(2)),  # uint16
        ((), 0, bytes(2)),  # text
    ],
)
def test_forged_runs_are_an_error_before_there_is_an_array(shape, code, plain):
    """A record with a right checksum and runs that do not fit ends in CorruptError."""
    with pytest.raises(CorruptError, match="record: "):
        codec.decode(forged(shape, code, plain))["x"]


def test_a_region_without_a_colour_is_an_error():
    """An index map that names more regions than its palette has is never coloured by what lies beside it."""
    runs = runs_of(np.full((64, 64), 3, np.uint8))
    assert runs is not None
    with pytest.raises(CorruptError, match="palette"):
        segments(runs, np.eye(3, dtype=np.uint8), planar=True)


@pytest.mark.parametrize("output", ["pil", "array", "tensor", "indexed"])
def test_how_a_map_is_stored_changes_no_sample(tmp_path, output):
    """The same images come out of a store of runs and of one that is not compressed."""
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(3):
        blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(13, axis=0).repeat(17, axis=1)).save(images / f"{seed}.png")
    recipe, samples = Recipe("toy:toy"), []
    for level in (0, 9):
        store = Store(build(images, recipe, tmp_path / f"{level}.augcache", level=level, workers=0).store)
        [key, *_] = store.keys(recipe)
        record = store.get(recipe, key)
        assert record is not None
        assert (record.runs("labels") is None) == (level == 0)
        dataset = HashedSaliencyDataset(images, store=store, output=output)
        torch.manual_seed(0)
        samples.append([dataset[index] for index in range(len(dataset))])
    for (raw, _), (packed, _) in zip(*samples, strict=True):
        if output == "indexed":
            assert all(torch.equal(raw[name], packed[name]) for name in raw)
        else:
            assert np.array_equal(np.asarray(raw), np.asarray(packed))

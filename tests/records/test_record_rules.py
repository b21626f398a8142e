"""Malformed records with a right checksum: right answers or one clear line, whoever reads, and never much memory."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from conftest import forged, sealed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from augcache import HashedSaliencyDataset, Recipe, SaliencyLookup, Store
from augcache.errors import AugcacheError, CorruptError, RecipeError
from augcache.images.keys import content_key
from augcache.pages.preview import write_sheet
from augcache.pages.report import write_report
from augcache.records import codec
from augcache.storage.manifest import DECODED, Source
from augcache.storage.store import Batch
from augcache.training.cached_images import CachedImages
from augcache.upkeep.export import export
from augcache.upkeep.verify import verify

HERE = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # for processes that import this file

RECIPE = Recipe("toy:toy")
IMAGE = np.zeros((20, 24, 3), np.uint8)
GOOD = {
    "labels": (np.arange(480).reshape(20, 24) // 160).astype(np.uint8),
    "palette": np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8),
    "region_saliency": np.array([0, 0.5, 1], np.float32),
    "cut": np.eye(20, 24, dtype=bool),
    "status": np.array("ok"),
}
CODES = {np.dtype(text): code for code, text in codec._DTYPES.items()}


def without(name: str) -> dict[str, np.ndarray]:
    return {other: value for other, value in GOOD.items() if other != name}


def raw(arrays: dict[str, tuple[int, int, tuple[int, ...], bytes]]) -> bytes:
    """A record of arrays by code, encoding, shape and payload."""
    head = b"".join(
        bytes([len(name)])
        + name.encode()
        + struct.pack(f"<BBBI{len(shape)}I", code, how, len(shape), len(data), *shape)
        for name, (code, how, shape, data) in arrays.items()
    )
    return sealed(bytes([len(arrays)]) + head + b"".join(data for _, _, _, data in arrays.values()))


def squeezed(size: int) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(size))


def zeros(count: int, size: int) -> bytes:
    return raw({f"x{n}": (2, codec.ZSTD, (size,), squeezed(size)) for n in range(count)})


def runs_bomb(side: int) -> bytes:
    data = zstandard.ZstdCompressor().compress(bytes(side * side // 256) + b"\xff" * (side * side // 256))
    return raw({"labels": (2, codec.RUNS, (side, side), data), "palette": (2, codec.RAW, (1, 3), bytes(3))})


MALFORMED = {
    "many zeros": zeros(64, 190 << 20),
    "runs of 32,000 x 32,000": runs_bomb(32_000),
    "more pixels than an image": forged(
        {"labels": np.broadcast_to(np.uint8(0), (1 << 14, 1 << 14)), "palette": GOOD["palette"]}
    ),
    "no side": raw({"x": (2, codec.RAW, (2**32 - 1, 2**32 - 1, 2**32 - 1, 0), b"")}),
    "twice": raw({"x": (2, codec.RAW, (1,), b"1")})[:12] and sealed(
        b"\2" + 2 * (b"\1x" + struct.pack("<BBBII", 2, 0, 1, 1, 1)) + b"12"
    ),
    "another cut": forged({**GOOD, "cut": np.eye(19, 24, dtype=bool)}),
    "a cut of numbers": forged({**GOOD, "cut": np.eye(20, 24, dtype=np.uint8)}),
    "labels of floats": forged({**GOOD, "labels": GOOD["labels"].astype(np.float32)}),
    "labels of one axis": forged({**GOOD, "labels": GOOD["labels"].ravel()}),
    "no labels": forged({**GOOD, "labels": np.zeros((0, 24), np.uint8), "cut": np.zeros((0, 24), bool)}),
    "a palette of floats": forged({**GOOD, "palette": GOOD["palette"].astype(np.float32)}),
    "an empty palette": forged({**GOOD, "palette": np.zeros((0, 3), np.uint8)}),
    "a palette of two channels": forged({**GOOD, "palette": GOOD["palette"][:, :2]}),
    "NaN": forged({**GOOD, "region_saliency": np.array([0, np.nan, 1], np.float32)}),
    "too salient": forged({**GOOD, "region_saliency": np.array([0, 2, 1], np.float32)}),
    "saliency of fewer": forged({**GOOD, "region_saliency": np.zeros(2, np.float32)}),
    "saliency of doubles": forged({**GOOD, "region_saliency": np.zeros(3)}),
    "a status of numbers": forged({**GOOD, "status": np.array(1)}),
    "labels beyond, raw": forged({**GOOD, "palette": GOOD["palette"][:2], "region_saliency": np.zeros(2, np.float32)}),
    "labels beyond, runs": forged({**without("region_saliency"), "labels": np.full((64, 64), 9, np.uint8)}
                                  | {"cut": np.zeros((64, 64), bool)}),
    "labels beyond, zstd": forged({**without("region_saliency"), "labels": np.tile(np.uint8([9, 1]), (64, 32))}
                                  | {"cut": np.zeros((64, 64), bool)}),
    "labels beyond, wide": forged({**GOOD, "labels": GOOD["labels"].astype(np.uint16) + 700}),
    "a mask of another shape": forged({"image": IMAGE, "mask": np.zeros((3, 3), np.uint8)}),
}  # fmt: skip  # a table


def store_of(path: Path, record: bytes, other: bytes | None = None) -> Store:
    """A store of one record, under its image and in the manifest as image and as copy; and of another first."""
    store, keys = Store(path, "w"), [content_key(IMAGE), content_key(IMAGE + 1)]
    records = {keys[0]: record} | ({} if other is None else {keys[1]: other})
    rows = [Source(f"{number}.png", key) for number, key in enumerate(records)]
    for prefix in (DECODED, RECIPE.digest):
        store.commit(RECIPE, Batch(records, rows), prefix=prefix)
    return store


def read_all(store: Store, folder: Path) -> list[str]:
    """Read a store in every way; returns the classes of the errors that a user would see, or raises what is a bug."""
    path, steps = store.path, []
    for view in ("segments", "saliency", "cut"):
        for output in ("pil", "array", "tensor"):
            steps.append(
                lambda view=view, output=output: _each(
                    HashedSaliencyDataset(store=path, view=view, output=output, recipe=RECIPE)
                )
            )
        steps.append(lambda view=view: SaliencyLookup(path, view=view, recipe=RECIPE)(IMAGE))
        steps.append(lambda view=view: export(path, folder / view, view=view))
    steps.append(lambda: _each(HashedSaliencyDataset(store=path, output="indexed", recipe=RECIPE)))
    steps.append(lambda: _each(CachedImages(path, RECIPE)))
    steps.append(lambda: export(path, folder / "image", view="image"))
    steps.append(lambda: verify(path))
    steps.append(lambda: write_report(store, folder / "r.html"))
    steps.append(lambda: write_sheet(store, folder / "s.png"))
    seen = []
    for step in steps:
        try:
            step()
        except AugcacheError as error:
            seen.append(f"{type(error).__name__} {'in several lines' * (chr(10) in str(error))}".strip())
    return seen


def _each(dataset) -> None:
    for number in range(len(dataset)):
        dataset[number]
    dataset.__getitems__(list(range(len(dataset))))


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_record_is_found_by_verify_and_given_to_nobody(tmp_path, what):
    """Every kind: verify lists it, and opening it or asking for its arrays is one clear line that says where."""
    store = store_of(tmp_path / "s.augcache", MALFORMED[what])
    [problem] = verify(store).problems
    assert (problem.kind, problem.names) == ("corrupt entries", [content_key(IMAGE).hex()])
    with pytest.raises(CorruptError, match=r"s\.augcache: entry ") as caught:
        list(store.get(RECIPE, content_key(IMAGE)).values())
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_malformed_records_take_little_memory_and_end_in_no_other_error(tmp_path):
    """All readers on all kinds, the large ones beside a good record too, with 1.5 GB beyond what the libraries take."""
    code = """
import resource, traceback
from test_record_rules import *
warm = store_of(Path("warm.augcache"), codec.encode(GOOD))
assert "CorruptError" not in read_all(warm, Path("."))
stores = []
for number, (what, record) in enumerate(MALFORMED.items()):
    for other in (None, codec.encode(GOOD))[: 2 if number < 4 else 1]:  # the large ones also beside a good one
        folder = Path(f"{number}{other is None}"); folder.mkdir()
        stores.append((what, folder, store_of(folder / "s.augcache", record, other)))
taken = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (taken + 1_500_000_000,) * 2)
for what, folder, store in stores:
    try:
        seen = read_all(store, folder)
        if any("lines" in error for error in seen): print(what, seen)
    except BaseException:
        print(what); traceback.print_exc(file=sys.stdout)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(HERE)},
    )  # fmt: skip  # one call
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


dtypes = st.sampled_from([bool, np.uint8, np.uint16, np.float32, np.int64])
shapes = st.sampled_from([(20, 24), (20, 24, 3), (3, 3), (3,), (2, 3), (), (0, 3), (70000, 1), (480,)])
odd = st.builds(
    lambda dtype, shape, value: np.full(shape, value).astype(dtype), dtypes, shapes, st.sampled_from([0, 1, 2, 200])
)
names = st.sampled_from([*GOOD, "image", "mask", "encoded"])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names, odd, max_size=4), st.sets(st.sampled_from(list(GOOD)), max_size=3), st.booleans())
def test_whatever_a_record_holds_it_is_read_or_refused(tmp_path_factory, arrays, left_out, alone):
    """Random arrays in the place of right ones, through every reader: no other error than one of augcache's."""
    folder = tmp_path_factory.mktemp("r")
    record = {name: value for name, value in {**GOOD, **arrays}.items() if name in arrays or name not in left_out}
    read_all(store_of(folder / "s.augcache", forged(record), None if alone else codec.encode(GOOD)), folder)


def test_what_could_not_be_read_is_not_written():
    """A build says at once that a transform gives no legal record."""
    for record in (
        {**GOOD, "cut": GOOD["cut"][1:]},
        {**GOOD, "palette": GOOD["palette"][:1]},
        {"x": np.array("x" * 5000)},
    ):
        with pytest.raises(RecipeError):
            codec.encode(record)


def test_a_large_blank_record_is_no_bomb():
    """What is legal and happens to be very small is stored larger, and comes back."""
    blank = {"x": np.zeros(140 << 20, np.uint8)}
    assert len(codec.decode(codec.encode(blank))["x"]) == 140 << 20

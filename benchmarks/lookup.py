"""What a look-up costs: ours and its peers on the same real images, in one run.

    python benchmarks/lookup.py [DATA] [--images N] [--loader]

Cuts 256x256 crops out of the photographs under DATA, stores their saliency records, and times every step in CPU
microseconds a sample, interleaved, as medians. Peers that are not installed are named as missing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from augcache import HashedSaliencyDataset, PaletteJitter, Recipe, SaliencyLookup, Store, build, content_key
from augcache.sources import Folder

SIDE = 256
ROUNDS = 15


def crops(data: Path, count: int, folder: Path) -> None:
    """Write `count` distinct crops as JPEG files of quality 90, spread over the photographs."""
    sources = [item for item in Folder(data) if item.name.endswith((".jpg", ".jpeg"))]
    rng, written = np.random.default_rng(0), 0
    images: list[np.ndarray] = []
    for item in sources:
        try:
            image = item.load().seen
        except Exception as error:
            print(f"{item.name}: {error}", file=sys.stderr)
            continue
        if min(image.shape[:2]) >= SIDE:
            images.append(image)
    while written < count:
        image = images[written % len(images)]
        y, x = (int(rng.integers(0, size - SIDE + 1)) for size in image.shape[:2])
        crop = image[y : y + SIDE, x : x + SIDE]
        if written >= len(images) and written % 2:
            crop = crop[:, ::-1]
        Image.fromarray(crop).save(folder / f"{written:05d}.jpg", quality=90)
        written += 1


def microseconds(steps: dict[str, Callable[[int], object]], samples: int) -> dict[str, float]:
    """Median CPU time of each step for one sample; the steps take turns, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(ROUNDS):
        for name, step in steps.items():
            start = time.process_time()
            for index in range(round_number * 7, round_number * 7 + 100):
                step(index % samples)
            times[name].append((time.process_time() - start) / 100 * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


@contextlib.contextmanager
def prepared(description: str | None) -> Iterator[tuple[Path, Store, Recipe, Path]]:
    """Read the command line; yield the folder of crops, the store of their records, its recipe, a scratch folder."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="../shared/data/saliency", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--keep", type=Path, help="folder to make the crops and the store in, and to find them again")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.keep or Path(scratch)) / "crops"
        if not folder.exists():
            folder.mkdir(parents=True)
            crops(arguments.data, arguments.images, folder)
        recipe = Recipe("saliencycut")
        yield folder, Store(build(folder, recipe).store), recipe, Path(scratch)


def main() -> None:
    cv2.setNumThreads(1)
    with prepared(__doc__) as (folder, store, recipe, _):
        measure(folder, store, recipe)


def measure(folder: Path, store: Store, recipe: Recipe) -> None:
    rows = list(store.sources())[:1000]
    files = [(folder / row.name).read_bytes() for row in rows]
    images = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]
    pils = [Image.fromarray(image) for image in images]
    keys = [row.key for row in rows]
    lookup = SaliencyLookup(store, jitter=PaletteJitter())
    tensor_folder = HashedSaliencyDataset(folder, store=store, output="tensor")
    array_folder = HashedSaliencyDataset(folder, store=store, output="array")

    def to_map(index: int) -> object:
        record = store.get(recipe, content_key(images[index]))
        assert record is not None
        return record["labels"], record["palette"]

    def to_tensor(index: int) -> object:
        record = store.get(recipe, content_key(images[index]))
        return lookup.lookup.rendered(record, None, lambda shape: torch.rand(shape).numpy(), "planes")

    def batch(index: int) -> object:
        return tensor_folder.__getitems__([(index + k) % len(rows) for k in range(32)])

    steps: dict[str, Callable[[int], object]] = {
        "Pillow JPEG decode to array (the unit)": lambda i: np.asarray(Image.open(io.BytesIO(files[i])).convert("RGB")),
        "content key of the array": lambda i: content_key(images[i]),
        "store.get, nothing decoded": lambda i: store.get(recipe, keys[i]),
        "array to index map + palette, hash included": to_map,
        "array to re-coloured RGB tensor, hash included": to_tensor,
        "PIL image to re-coloured PIL image (SaliencyLookup)": lambda i: lookup(pils[i]),
        "folder mode, re-coloured RGB tensor": lambda i: tensor_folder[i],
        "folder mode, re-coloured RGB array": lambda i: array_folder[i],
        "folder mode, tensors, batches of 32, a sample": batch,
    }  # fmt: skip  # a table
    times = microseconds(steps, len(rows))
    times["folder mode, tensors, batches of 32, a sample"] /= 32
    unit = times["Pillow JPEG decode to array (the unit)"]
    print(f"\n{len(rows)} of {len(store)} records, 256x256, CPU microseconds a sample, one thread\n")
    print("| step | us | x Pillow decode |\n|---|---|---|")
    for name, value in times.items():
        print(f"| {name} | {value:.0f} | {value / unit:.3f} |")
    info = store.info()
    values = [len(store.get_bytes(recipe.digest, key) or b"") for key in keys]
    of_file = info.bytes / info.entries
    print(f"\nbytes per record: {statistics.mean(values):.0f} as encoded, {of_file:.0f} of the data file")


if __name__ == "__main__":
    main()

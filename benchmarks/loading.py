"""Epochs of 64x64 images through a DataLoader: a store beside large JPEGs and beside other formats.

    python benchmarks/loading.py [DATA] [--images 4000] [--memory] [--synthetic 100000]

Cuts and shrinks distinct 64x64 images from the real photographs in DATA (default ../shared/data), stores the same
pixels in each format, and reads them all, shuffled, with 2 worker processes in batches of 256, turn by turn. "JPEG" are
1-megapixel files, tiled from the same photographs (they are smaller), decoded and resized at each epoch; fewer of
them, for they are slow. Formats that are not installed are left out:
pip install webdataset litdata mosaicml-streaming ffcv.

--memory compares the peak memory of resizing 1,000 and 20,000 images; --synthetic N resizes N images and prints
the cost of each tenth of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

from augcache import CachedImages, Recipe
from augcache.building.build import resize

SIDE, BATCH, WORKERS = 64, 256, 2
RECIPE = Recipe("resize", width=SIDE, height=SIDE)
Loader = Callable[[], Iterable[Any]]


def photographs(data: Path) -> list[Image.Image]:
    files = [*sorted((data / "coco128" / "images").iterdir()), *sorted((data / "bsds500").rglob("*.jpg"))]
    return [Image.open(file).convert("RGB") for file in files[:64]]


class Pieces(Dataset[Any]):
    """Distinct 64x64 images with labels, made on the fly: a piece of a photograph, shrunk to half, and a mark."""

    def __init__(self, data: Path, count: int) -> None:
        self.count = count
        self.half = [
            np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS))
            for image in photographs(data)
        ]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = self.half[index % len(self.half)]
        random = np.random.default_rng(index)
        y, x = (int(random.integers(0, side - SIDE + 1)) for side in image.shape[:2])
        piece = image[y : y + SIDE, x : x + SIDE].copy()
        piece[0, 0] = index % 256, index // 256 % 256, index // 65536
        return piece, index % 10


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def ours(pieces: Pieces, folder: Path, level: int) -> Loader:
    store = resize(pieces, RECIPE, folder / f"{level}.augcache", workers=0, level=level).store
    data = CachedImages(store, output="tensor")
    return lambda: DataLoader(data, BATCH, shuffle=True, num_workers=WORKERS)


class Files(Dataset[Any]):
    def __init__(self, files: list[Path], read: Callable[[Path], np.ndarray]) -> None:
        self.files, self.read = files, read

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return as_tensor(self.read(self.files[index])), 0


def pillow_full(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def pillow_draft(path: Path) -> np.ndarray:
    image = Image.open(path)
    image.draft("RGB", (2 * SIDE, 2 * SIDE))
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0))


def opencv_full(path: Path) -> np.ndarray:
    image = cv2.resize(cv2.imread(str(path)), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def jpegs(data: Path, folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    sources, files = photographs(data), []
    for index in range(count):
        image = Image.new("RGB", (1152, 868))
        for number, (x, y) in enumerate((x, y) for y in range(0, 868, 480) for x in range(0, 1152, 640)):
            image.paste(sources[(index * 7 + number) % len(sources)].resize((640, 480)), (x, y))
        files.append(folder / f"{index:04d}.jpg")
        image.save(files[-1], quality=90)
    return files


def of_webdataset(pieces: Pieces, folder: Path) -> Loader:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%03d.tar"), maxcount=1000, verbose=0) as writer:
        for index in range(len(pieces)):
            image, label = pieces[index]
            writer.write({"__key__": f"{index:06d}", "raw": image.tobytes(), "cls": str(label).encode()})
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    return lambda: DataLoader(
        webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(1000)
        .map(of_tar)
        .batched(BATCH, collation_fn=default_collate),
        None,
        num_workers=WORKERS,
    )


def of_tar(sample: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return as_tensor(np.frombuffer(sample["raw"], np.uint8).reshape(SIDE, SIDE, 3)), int(sample["cls"])


def of_litdata(pieces: Pieces, folder: Path) -> Loader:
    import litdata
    from litdata.streaming import Cache

    folder.mkdir()
    cache = Cache(str(folder), chunk_bytes="16MB")
    for index in range(len(pieces)):
        image, label = pieces[index]
        cache[index] = {"image": as_tensor(image), "label": label}
    cache.done()
    cache.merge()
    return lambda: litdata.StreamingDataLoader(
        litdata.StreamingDataset(str(folder), shuffle=True), batch_size=BATCH, num_workers=WORKERS
    )


def of_mosaic(pieces: Pieces, folder: Path) -> Loader:
    from streaming import MDSWriter, StreamingDataset

    columns = {"image": f"ndarray:uint8:3,{SIDE},{SIDE}", "label": "int"}
    with MDSWriter(out=str(folder), columns=columns, size_limit="16mb") as writer:
        for index in range(len(pieces)):
            image, label = pieces[index]
            writer.write({"image": np.ascontiguousarray(image.transpose(2, 0, 1)), "label": label})

    def loader() -> Iterable[Any]:
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        data = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
        return DataLoader(data, BATCH, num_workers=WORKERS)

    return loader


def of_memmap(pieces: Pieces, folder: Path) -> Loader:
    array = np.lib.format.open_memmap(folder, "w+", np.uint8, (len(pieces), 3, SIDE, SIDE))
    for index in range(len(pieces)):
        array[index] = pieces[index][0].transpose(2, 0, 1)
    array.flush()
    return lambda: DataLoader(Mapped(folder, len(pieces)), BATCH, shuffle=True, num_workers=WORKERS)


class Mapped(Dataset[Any]):
    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count, self.array = path, count, None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if self.array is None:
            self.array = np.load(self.path, mmap_mode="r")
        return torch.from_numpy(self.array[index].copy()), 0


def epoch(loader: Loader) -> tuple[float, float, int]:
    """Wall seconds from the first batch on, CPU seconds of all processes, and images."""
    cpu, count, started = cpu_seconds(), 0, 0.0
    for batch in loader():
        images = batch["image"] if isinstance(batch, dict) else batch[0]
        if not started:  # processes have started; what they prepared ahead is little of an epoch
            started, count = time.perf_counter(), -len(images)
        count += len(images)
    return time.perf_counter() - started, cpu_seconds() - cpu, count


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that have ended."""
    kinds = (resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in kinds)


def compare(data: Path, count: int, rounds: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="loading"))
    pieces = Pieces(data, count)
    files = jpegs(data, folder / "jpegs", max(2 * BATCH, count // 8))
    loaders: dict[str, Loader] = {
        "augcache": ours(pieces, folder, 9),
        "augcache, --level 0": ours(pieces, folder, 0),
    }
    makers = {"webdataset": of_webdataset, "litdata": of_litdata, "streaming": of_mosaic}
    for name, make in makers.items():
        if importlib.util.find_spec(name):
            loaders[name] = make(pieces, folder / name)
    print("not installed:", [name for name in (*makers, "ffcv") if not importlib.util.find_spec(name)], file=sys.stderr)
    loaders["memory map, a bound"] = of_memmap(pieces, folder / "map.npy")
    for name, read in (("full", pillow_full), ("draft", pillow_draft), ("OpenCV", opencv_full)):
        loaders[f"1-megapixel JPEG, {name}"] = lambda read=read: DataLoader(
            Files(files, read), BATCH // 8, shuffle=True, num_workers=WORKERS
        )
    wall: dict[str, list[float]] = {name: [] for name in loaders}
    cpu: dict[str, list[float]] = {name: [] for name in loaders}
    for turn in range(rounds + 1):
        for name, loader in loaders.items():
            seconds, spent, read_count = epoch(loader)
            if turn:  # the first fills the page cache
                wall[name].append(read_count / seconds)
                cpu[name].append(spent / (read_count + (BATCH // 8 if "JPEG" in name else BATCH)) * 1e6)
    base_rate, base_cpu = (statistics.median(values["augcache"]) for values in (wall, cpu))
    print(f"{count} images of {SIDE} x {SIDE}, {WORKERS} workers, batches of {BATCH}\n")
    print("| read from | images/s | augcache / it | CPU us an image, with start of workers | it / augcache |")
    print("|---|---|---|---|---|")
    for name in loaders:
        rate, spent = statistics.median(wall[name]), statistics.median(cpu[name])
        print(f"| {name} | {rate:,.0f} | {base_rate / rate:.2f} | {spent:.0f} | {spent / base_cpu:.2f} |")
    shutil.rmtree(folder)


CHILD = """
import resource, sys, time
sys.path.insert(0, {here!r})
from loading import Pieces, RECIPE, Path, resize
rows = []
pieces = Pieces(Path({data!r}), {count})
step, started = {count} // 10, time.process_time()
def note(counts):
    while counts.done >= step * (len(rows) + 1):
        rows.append(time.process_time())
report = resize(pieces, RECIPE, {store!r}, workers={workers}, level=1, progress=note)
assert report.failed == 0
times = [b - a for a, b in zip([started, *rows], rows)]
peak = max(resource.getrusage(kind).ru_maxrss for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(peak, *times)
"""


def resized(data: Path, count: int, workers: int) -> list[float]:
    """Resize `count` images in a process of its own: its peak memory in KiB, and CPU seconds of each tenth."""
    with tempfile.TemporaryDirectory() as folder:
        code = CHILD.format(
            here=str(Path(__file__).parent), data=str(data), count=count, store=f"{folder}/s.augcache", workers=workers
        )
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return [float(word) for word in out.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--synthetic", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        small, large = (resized(options.data, count, 2)[0] / 1024 for count in (1000, 20_000))
        print(f"peak memory of resizing: 1,000 images {small:.0f} MiB, 20,000 images {large:.0f} MiB")
        print(f"growth {large - small:+.0f} MiB")
    if options.synthetic:
        _, *tenths = resized(options.data, options.synthetic, 0)
        cost = [f"{seconds / (options.synthetic / 10) * 1e6:.0f}" for seconds in tenths]
        print(f"{options.synthetic} images, CPU us an image in each tenth of them: {', '.join(cost)}")
    if not (options.memory or options.synthetic):
        compare(options.data, options.images, options.rounds)


if __name__ == "__main__":
    main()

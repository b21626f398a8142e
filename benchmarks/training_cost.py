"""What views from a store cost a training: epochs of a SimCLR step loop, with and without the store, in one run.

    python benchmarks/training_cost.py [DATA] [--images 256] [--size 224] [--backbone resnet18] [--batch 32]

Takes JPEG photographs from DATA (default ../shared/data), builds their saliency store, and trains epochs by turns, on
the GPU where there is one (give it --backbone resnet50 --batch 256 --workers 16), from

(a) the files with SimCLR's default augmentations, by torchvision's ImageFolder,
(b) the store with p=0.5 and the same augmentations,
(c) the store with p=1 and no originals read: re-coloured and resized, and with the same augmentations,
(d) saliency computed at each look-up: not run, but reckoned from 20 images,
(e) one batch that stays in memory: the step alone, the ceiling.

"In steps" is the share of an epoch that is spent in training steps, and so not in waiting for data. "Loader alone"
reads the same batches without training. "CPU" is the time of all processes, which other work on the machine changes
less than it does the clock's. Figures are medians of the rounds. Last, the re-colouring of 256 images of 224x224 at
once, on the device.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import nn
from torch.utils.data import DataLoader

from augcache import PaletteJitter, Recipe, Store, build
from augcache.images.decode import decode_views
from augcache.training.policies import policy_views
from augcache.transforms.saliencycut import saliencycut

Batches = Callable[[], Iterable[Any]]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
STORED = {
    "(b) store, p=0.5 + default": "saliency0.5+default",
    "(c) store, p=1, re-coloured": "saliency+jitter",
    "(c) store, p=1 + default": "saliency+default",
}
PLAIN, FLY, CEILING = "(a) files, default", "(d) saliency on the fly, p=0.5 + default", "(e) in memory"


def collect(data: Path, folder: Path, count: int) -> None:
    """Copy JPEG photographs of several sets; `count` of them at most."""
    files = [
        path
        for part in ("coco128/images", "bsds500", "animal", "saliency")
        for path in sorted((data / part).rglob("*"))
        if path.suffix.lower() in (".jpg", ".jpeg")
    ]
    (folder / "all").mkdir(parents=True)
    for number, path in enumerate(files[:count]):
        shutil.copy(path, folder / "all" / f"{number:05d}.jpg")


class SimCLR(nn.Module):
    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = getattr(torchvision.models, backbone)()
        width, self.backbone.fc = self.backbone.fc.in_features, nn.Identity()
        self.head, self.loss = SimCLRProjectionHead(width, width, 128), NTXentLoss(0.5)

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        return self.loss(*(self.head(self.backbone(view)) for view in views))


class Trainer:
    def __init__(self, backbone: str) -> None:
        self.model = SimCLR(backbone).to(DEVICE)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)

    def step(self, views: list[torch.Tensor]) -> None:
        loss = self.model([view.to(DEVICE, non_blocking=True) for view in views])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        synchronize()

    def epoch(self, batches: Batches) -> tuple[float, float, float]:
        """Seconds of an epoch after its first batch, and of its steps; CPU seconds of all of it."""
        cpu, started, busy = cpu_seconds(), 0.0, 0.0
        for views, _ in batches():
            before = time.perf_counter()
            started = started or before  # processes have started, and the first batch is there
            self.step(views)
            busy += time.perf_counter() - before
        return time.perf_counter() - started, busy, cpu_seconds() - cpu


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def read(batches: Batches) -> tuple[float, float]:
    """Seconds of reading an epoch after its first batch; CPU seconds of all of it, in all processes."""
    cpu, started = cpu_seconds(), 0.0
    for _ in batches():
        started = started or time.perf_counter()
    return time.perf_counter() - started, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """CPU time of this process and of those that it has started and that have ended."""
    kinds = (resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in kinds)


def seconds_of_saliency(folder: Path, count: int = 20) -> float:
    """Seconds for the saliency of one image, in one process."""
    images = [decode_views(path.read_bytes())[0] for path in sorted(folder.rglob("*.jpg"))]
    images = images[:: max(1, len(images) // count)][:count]
    saliencycut(images[0])  # compiles
    started = time.perf_counter()
    for image in images:
        saliencycut(image)
    return (time.perf_counter() - started) / len(images)


def compare(folder: Path, store: str, options: argparse.Namespace) -> None:
    files = torchvision.datasets.ImageFolder(str(folder))
    sets = {PLAIN: policy_views(files, "default", size=options.size)}
    for name, policy in STORED.items():
        base = folder if "p=0.5" in name else None  # for the others the originals might as well be gone
        sets[name] = policy_views(base, policy, store=store, size=options.size)
    loaders: dict[str, Batches] = {
        name: lambda data=data: DataLoader(
            data,
            options.batch,
            shuffle=True,
            drop_last=True,
            num_workers=options.workers,
            pin_memory=DEVICE.type == "cuda",
        )
        for name, data in sets.items()
    }
    batch = [torch.randn(options.batch, 3, options.size, options.size, device=DEVICE) for _ in range(2)]
    count = len(files) // options.batch
    loaders[CEILING] = lambda: ((batch, None) for _ in range(count))

    if DEVICE.type == "cpu":
        torch.set_num_threads(1)  # the workers want the other cores
    trainer = Trainer(options.backbone)
    trainer.step(batch)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in loaders}
    for turn in range(options.rounds + 1):
        for name, batches in loaders.items():
            row = (*trainer.epoch(batches), *read(batches))
            if turn:  # the first fills caches
                found[name].append(row)
    table = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in found.items()}
    report(table, options, count * options.batch, seconds_of_saliency(folder))


def report(table: dict[str, list[float]], options: argparse.Namespace, images: int, saliency: float) -> None:
    (b, *_), workers = STORED, max(1, options.workers)
    # Once an image and epoch where at least one of two views is of it; the workers share it out.
    extra = 0.75 * images * saliency
    epoch, busy, all_cpu, alone, cpu = table[b]
    slow = alone + extra / workers
    table = {**table, FLY: [max(epoch, slow), busy, all_cpu + extra, slow, cpu + extra]}
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"\n{images} photographs, 2 views of {options.size}x{options.size}, {options.backbone}, "
        f"batches of {options.batch},"
    )
    print(f"{options.workers} workers, {name}; saliency takes {saliency * 1e3:.0f} ms an image\n")
    print("| views from | epoch, s | / (a) | in steps | CPU, s | / (a) | loader alone, s | / (a) | CPU, s | / (a) |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    base = table[PLAIN]
    for row in sorted(table):
        values = table[row]
        cells = [f"{value:.2f} | {value / unit:.3f}" for value, unit in zip(values, base, strict=True)]
        cells[1] = f"{values[1] / values[0]:.0%}"
        print(f"| {row} | {' | '.join(cells if row != CEILING else [*cells[:3], *['|'] * 2])} |")
    epochs, loaders = table[FLY][0] / table[b][0], table[FLY][4] / table[b][4]
    print(f"\n(d)/(b): {epochs:.1f} for an epoch, {loaders:.1f} in CPU time of the loader")


def recolour(store: Store, recipe: Recipe, count: int = 256, side: int = 224) -> None:
    """Time the colouring of a whole batch."""
    records = [store.get(recipe, key) for key, _ in zip(store.keys(recipe), range(count), strict=False)]
    rows = max(256, *(len(record["palette"]) for record in records if record is not None))
    labels = np.zeros((count, side, side), np.uint8 if rows == 256 else np.int32)
    palettes, regions = np.zeros((count, rows, 3), np.uint8), np.zeros(count, np.int64)
    for index in range(count):
        record = records[index % len(records)]
        assert record is not None  # its key was listed
        shrunk = cv2.resize(record["labels"], (side, side), interpolation=cv2.INTER_NEAREST)
        labels[index], regions[index] = shrunk, len(record["palette"])
        palettes[index, : regions[index]] = record["palette"]
    arrays = {"labels": labels, "palette": palettes, "regions": regions}
    batch = {name: torch.from_numpy(array).to(DEVICE) for name, array in arrays.items()}
    jitter, times = PaletteJitter(), []
    for _ in range(30):
        synchronize()
        started = time.perf_counter()
        jitter(batch)
        synchronize()
        times.append(time.perf_counter() - started)
    median = statistics.median(times[5:]) * 1e3
    print(f"re-colouring of {count} images of {side}x{side}: {median:.2f} ms on {DEVICE.type}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, recipe = Path(scratch) / "images", Recipe("saliencycut")
        collect(options.data, folder, options.images)
        store = build(folder, recipe).store
        compare(folder, store, options)
        recolour(Store(store), recipe)


if __name__ == "__main__":
    main()

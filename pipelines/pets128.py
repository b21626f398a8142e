"""Oxford-IIIT Pets at 128x128: SimCLR, then segmentation with 1 %, 10 % and 100 % of the labels.

    python pipelines/pets128.py FOLDER [--policy default]

FOLDER is where ``images.tar.gz`` and ``annotations.tar.gz`` were unpacked: ``images/*.jpg``,
``annotations/trimaps/*.png``, ``annotations/trainval.txt`` and ``test.txt``. The stores, images with trimaps, are
written beside FOLDER. ``--epochs 0`` leaves out SimCLR, and tells what it is worth.
"""

from __future__ import annotations

import argparse
import copy
import csv
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from methods import SimCLR
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from torch.utils.data import DataLoader, Subset, default_collate
from trainer import SAMPLES, Settings, home_of, make_backbone, make_loader, read_arguments, save, train, views_of

from augcache import CachedImages, Recipe
from augcache.building.build import resize
from augcache.sources import ListFile, Masked
from augcache.training.policies import MEAN, POLICIES, STD

PUBLISHED = Settings(size=128, epochs=100, batch=256, lr=0.3, weight_decay=1e-6, warmup=10)
FINE_TUNING = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "batch": 32, "warmup": 1, "cycles": 1}
SHARES = (0.01, 0.1, 1.0)
RECIPE = Recipe("resize", width=128, height=128, masks=True)


def make_store(folder: Path, split: str, store: Path, limit: int = 0, workers: int | None = None) -> Path:
    """Store 128x128 copies, images and trimaps, of one split."""
    lines = (folder / "annotations" / f"{split}.txt").read_text().split("\n")
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        # The breed is the name of the file up to the number.
        csv.writer(file).writerows([f"{name}.jpg", name.rpartition("_")[0]] for name in names)
        file.flush()
        images = Masked(ListFile(file.name, folder / "images"), folder / "annotations" / "trimaps")
        path = store.with_name(f"{store.stem}-{split}{store.suffix}")
        print(resize(images, RECIPE, path, limit=limit or None, workers=workers))
    return path


def one_hot(trimap: torch.Tensor) -> torch.Tensor:
    """Layers of pet, background and border: uint8 (B, H, W) of 1, 2 and 3 to float32 (B, 3, H, W)."""
    return torch.stack([trimap == value for value in (1, 2, 3)], dim=1).float()


def collate(items: list[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch of images uint8 (B, 3, H, W), trimaps float32 (B, 3, H, W), and breeds (B,)."""
    images, (breeds, trimaps) = default_collate(items)
    return images, one_hot(trimaps), breeds


class Segmenter(nn.Module):
    """A backbone and two blocks, each a bilinear enlargement and a 3x3 convolution, up to the size of the image."""

    def __init__(self, backbone: nn.Module, features: int, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        self.backbone = backbone
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for before in (features, width)
        )
        self.last = nn.Conv2d(width, layers, 1)
        for name, values in (("mean", MEAN), ("std", STD)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images uint8 (B, 3, H, W) to scores (B, layers, H, W)."""
        height, width = images.shape[-2:]
        maps = self.backbone.forward_features((images - self.mean) / self.std)
        for block, part in zip(self.blocks, (4, 1), strict=True):
            maps = block(interpolate(maps, size=(height // part, width // part), mode="bilinear"))
        return self.last(maps)

    def loss(self, batch: Any) -> torch.Tensor:
        """Cross-entropy; half of the batches are mirrored."""
        images, trimaps = (each.flip(-1) for each in batch[:2]) if torch.rand(()) < 0.5 else batch[:2]
        return cross_entropy(self(images), trimaps)


@torch.no_grad()
def intersection_over_union(model: nn.Module, loader: DataLoader[Any]) -> torch.Tensor:
    """Measure the IoU of pet, background and border over all pixels of a test set."""
    model.eval()
    device = next(model.parameters()).device
    both, either = torch.zeros(3), torch.zeros(3)
    for images, trimaps, _ in loader:
        found = nn.functional.one_hot(model(images.to(device)).argmax(1).cpu(), 3).movedim(-1, 1)
        both += (found * trimaps).sum((0, 2, 3))
        either += torch.maximum(found, trimaps).sum((0, 2, 3))
    return both / either


def fine_tune(backbone: nn.Module, features: int, stores: dict[str, Path], settings: Settings) -> None:
    """Fine-tune the whole network on each share of the labels, a smaller share being part of a larger."""
    known, new = (CachedImages(stores[split], RECIPE, output="tensor", target="both") for split in ("trainval", "test"))
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    for share in SHARES:
        count = max(2, round(share * len(known)))
        tuned = replace(settings, batch=min(settings.batch, count))
        model = Segmenter(copy.deepcopy(backbone), features)
        train(model, make_loader(Subset(known, order[:count]), tuned, collate=collate), tuned, model.loss)
        iou = intersection_over_union(model, make_loader(new, tuned, train=False, collate=collate))
        print(f"{share:.0%} of the labels ({count} images): mean IoU {iou.mean():.3f}, of the pet {iou[0]:.3f}")


def make_sample(folder: Path) -> Path:
    """Make a dataset of the same form."""
    import numpy as np
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    names = []
    for index, path in enumerate(sorted(SAMPLES.rglob("*.jpg"))):
        names.append(f"{path.parent.name}_{index}")
        (folder / "images" / f"{names[-1]}.jpg").symlink_to(path)
        width, height = Image.open(path).size
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        trimap = np.digitize(np.hypot(x, y), [0.6, 0.65])
        trimap = np.array([1, 3, 2], np.uint8)[trimap]
        Image.fromarray(trimap).save(folder / "annotations" / "trimaps" / f"{names[-1]}.png")
    for split, part in (("trainval", names[::2]), ("test", names[1::2])):
        (folder / "annotations" / f"{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in part))
    return folder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", choices=POLICIES, default="default")
    parser.add_argument("--tuning-epochs", type=int, help="epochs of each fine-tuning; default: 50")


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED, add_options)
    with home_of(arguments, settings, make_sample) as (folder, store):
        stores = {
            split: make_store(folder, split, store, settings.limit, settings.builders) for split in ("trainval", "test")
        }
        backbone, features = make_backbone(settings)
        images = views_of(CachedImages(stores["trainval"], RECIPE), arguments.policy, settings)
        train(SimCLR(backbone, features), make_loader(images, settings), settings)
        save(backbone, arguments)

        epochs = arguments.tuning_epochs or (2 if arguments.smoke else 50)
        batch = min(FINE_TUNING["batch"], settings.batch)
        fine_tune(backbone, features, stores, replace(settings, **{**FINE_TUNING, "epochs": epochs, "batch": batch}))


if __name__ == "__main__":
    main()

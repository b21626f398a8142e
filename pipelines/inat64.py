"""iNaturalist's animals at 64x64: the download, once through a store, to SimCLR by the Hugging Face Trainer.

    python pipelines/inat64.py FOLDER [--annotations train.json] [--policy default]

FOLDER is where the download was unpacked: the annotation file, and beside it the folder that its paths start with
(``train_val2017/`` for 2017, ``train/`` for 2021). Plants, fungi and the rest are left out. The store is written
beside FOLDER; run again, nothing is decoded, and the photographs may be deleted. Learning rate and decay are those of
arXiv:2002.05709 on ImageNet, 0.3 for a batch of 256.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from evaluation import clustering_score, embed
from methods import SimCLR
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, default_collate
from trainer import (
    SAMPLES,
    Settings,
    home_of,
    make_backbone,
    make_loader,
    make_optimizer,
    make_schedule,
    read_arguments,
    save,
    steps_of,
    views_of,
)
from transformers import Trainer, TrainingArguments

from augcache import CachedImages, Recipe
from augcache.building.build import resize
from augcache.sources import open_source
from augcache.sources.json_stream import members
from augcache.training.policies import POLICIES, Policy, policy_transforms

PUBLISHED = Settings(size=64, epochs=100, batch=256, lr=0.3, weight_decay=1e-6, warmup=10)
# 2017 names groups of mixed rank; 2021 names the kingdom.
ANIMALS_2017 = {
    *("Actinopterygii", "Amphibia", "Animalia", "Arachnida", "Aves"),
    *("Insecta", "Mammalia", "Mollusca", "Reptilia"),
}


def animals(annotations: Path) -> str:
    """Return the rule that keeps the animals of an annotation file of either form."""
    categories = [element for key, element in members(annotations) if key == "categories"]
    if any("kingdom" in category for category in categories):
        return "kingdom=Animalia"
    return "supercategory=" + ",".join(sorted(ANIMALS_2017 & {each["supercategory"] for each in categories}))


def make_store(folder: Path, annotations: Path, store: Path, limit: int = 0, workers: int | None = None) -> Path:
    """Store 64x64 copies of all animals that the store does not have yet."""
    images = open_source(folder, annotations=annotations, keep=[animals(annotations)])
    print(resize(images, Recipe("resize", width=64, height=64), store, limit=limit or None, workers=workers))
    return store


class WithLoss(nn.Module):
    """A method as the Hugging Face Trainer calls it: keywords in, a dict with the loss out."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": self.method(views)}


def collate(items: list[Any]) -> dict[str, Any]:
    """Batch of views, by the name of the argument that takes them."""
    return {"views": default_collate([views for views, _ in items])}


def train(method: nn.Module, data: Dataset[Any], settings: Settings) -> None:
    """Train by the Hugging Face Trainer, with the optimiser and schedule of the other pipelines."""
    steps = steps_of(make_loader(data, settings), settings)
    optimizer = make_optimizer(method, settings)
    with TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            max_steps=settings.epochs * steps,
            per_device_train_batch_size=settings.batch,
            dataloader_drop_last=True,
            dataloader_num_workers=settings.workers,
            dataloader_pin_memory=torch.cuda.is_available(),
            max_grad_norm=0.0,  # SimCLR does not clip
            logging_steps=steps,
            seed=settings.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        optimizers = (optimizer, make_schedule(optimizer, settings, steps))
        Trainer(WithLoss(method), arguments, collate, data, optimizers=optimizers).train()


def make_sample(folder: Path) -> Path:
    """Make a dataset of the 2021 form, six crops an image: the cat is an animal, the roofs are not."""
    (folder / "train").mkdir(parents=True)
    images, annotations, categories = [], [], []
    for number, path in enumerate(sorted(SAMPLES.rglob("*.jpg"))):
        kingdom = "Animalia" if path.stem in ("chelsea", "astronaut") else "Plantae"
        categories.append({"id": number, "name": path.stem, "kingdom": kingdom})
        image = Image.open(path).resize((160, 120))
        for left in range(0, 60, 10):
            images.append({"id": len(images), "file_name": f"train/{path.stem}_{left}.jpg"})
            annotations.append({"id": len(annotations), "image_id": images[-1]["id"], "category_id": number})
            image.crop((left, 0, left + 100, 120)).save(folder / images[-1]["file_name"])
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--annotations", type=Path, help="default: FOLDER/train.json, else FOLDER/train2017.json")
    parser.add_argument("--policy", choices=POLICIES, default="default")


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED, add_options)
    with home_of(arguments, settings, make_sample) as (folder, store):
        found = [path for name in ("train.json", "train2017.json") if (path := folder / name).exists()]
        annotations = arguments.annotations or (found[0] if found else folder / "train.json")
        make_store(folder, annotations, store, settings.limit, settings.builders)
        copies = Recipe("resize", width=64, height=64)
        backbone, features = make_backbone(settings, small_images=True)
        train(SimCLR(backbone, features), views_of(CachedImages(store, copies), arguments.policy, settings), settings)
        save(backbone, arguments)

        [plain] = policy_transforms(Policy(p=0.0), views=1, size=settings.size)
        embedded = embed(backbone, make_loader(CachedImages(store, copies, plain), settings, train=False))
        print("k-means:", clustering_score(*embedded, settings.seed))


if __name__ == "__main__":
    main()

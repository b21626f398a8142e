"""CIFAR-10 or STL-10 with SimCLR: a ResNet for small images, a plain torch loop, and the linear test.

    python pipelines/cifar10_simclr.py cifar-10-batches-bin
    python pipelines/cifar10_simclr.py stl10_binary --size 96

FOLDER is what the download unpacks to, binary or Python version; the images go into stores beside it, one for each
split. STL-10 trains on its unlabelled images. Settings are those of arXiv:2002.05709, appendix B.9: first convolution
3x3, no max-pooling, colour jitter of half strength, no blur, temperature 0.5, LARS. After the linear warm-up the cosine
restarts three times; ``--cycles 1`` is the paper's single one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from evaluation import clustering_score, embed, linear_test
from lightly.transforms import SimCLRTransform
from methods import SimCLR
from PIL import Image
from trainer import SAMPLES, Settings, home_of, make_backbone, make_loader, read_arguments, save, train

from augcache import CachedImages, Recipe
from augcache.building.build import resize
from augcache.sources import open_source
from augcache.training.policies import Policy, policy_transforms

PUBLISHED = Settings(size=32, epochs=1000, batch=512, lr=1.0, weight_decay=1e-6, warmup=10, cycles=4)


def make_store(folder: Path, store: Path, split: str, settings: Settings) -> Path:
    """Store the images of a split at their own size."""
    path = store.with_name(f"{store.stem}-{split}{store.suffix}")
    recipe = Recipe("resize", width=settings.size, height=settings.size)
    images, limit = open_source(folder, split=split), settings.limit or None
    print(resize(images, recipe, path, limit=limit, workers=settings.builders))
    return path


def make_sample(folder: Path) -> Path:
    """Make a dataset of CIFAR-10's binary form: crops of the sample images."""
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("objects\npanels\nroofs\n")
    random, rows = np.random.default_rng(0), []
    for _ in range(4):
        for path in sorted(SAMPLES.rglob("*.jpg")):
            left, top = random.integers(0, 16, 2)
            crop = Image.open(path).resize((48, 48)).crop((left, top, left + 32, top + 32))
            label = ("objects", "panels", "roofs").index(path.parent.name)
            rows.append(bytes([label]) + np.asarray(crop).transpose(2, 0, 1).tobytes())
    random.shuffle(rows)
    (folder / "data_batch_1.bin").write_bytes(b"".join(rows[:24]))
    (folder / "test_batch.bin").write_bytes(b"".join(rows[24:]))
    return folder


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED)
    with home_of(arguments, settings, make_sample) as (folder, store):
        stores = {split: make_store(folder, store, split, settings) for split in ("train", "test")}
        unlabelled = (folder / "unlabeled_X.bin").exists()
        images = make_store(folder, store, "unlabeled", settings) if unlabelled else stores["train"]

        views = SimCLRTransform(settings.size, cj_strength=0.5, gaussian_blur=0.0)
        backbone, features = make_backbone(settings, small_images=True)
        loader = make_loader(CachedImages(images, transform=views), settings)
        train(SimCLR(backbone, features, temperature=0.5), loader, settings)
        save(backbone, arguments)

        [plain] = policy_transforms(Policy(p=0.0), views=1, size=settings.size)
        known, new = (
            embed(backbone, make_loader(CachedImages(path, transform=plain), settings, train=False))
            for path in stores.values()
        )
        print("k-means, test images:", clustering_score(*new, settings.seed))
        print(f"linear test: {linear_test(known, new):.3f} of the test images right")


if __name__ == "__main__":
    main()

"""G-SimCLR: SimCLR in batches of dissimilar images, which a denoising autoencoder has told apart beforehand.

    python pipelines/g_simclr.py cifar-10-batches-bin

FOLDER is what CIFAR-10 or STL-10 unpacks to. First a denoising autoencoder learns the images; k-means over its codes
gives pseudo-labels, which are kept in the store by the images' content, and found there by the next run with the
same settings. Then SimCLR trains on batches in which no two images are of one cluster, so that none repels its like.
As in the authors' notebooks for arXiv:2009.12007 there are as many clusters as images in a batch, the noise is 0.01
and the temperature 0.1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar10_simclr import make_sample, make_store
from evaluation import clustering_score, embed
from lightly.transforms import SimCLRTransform
from methods import SimCLR
from sklearn.cluster import KMeans
from torch import nn
from torch.utils.data import DataLoader, Sampler
from trainer import Settings, home_of, make_backbone, make_loader, read_arguments, save, train

from augcache import CachedImages, Store
from augcache.pseudo_labels import keys_of, label_recipe, read_labels, write_labels
from augcache.training.policies import Policy, policy_transforms

PUBLISHED = Settings(size=32, epochs=100, batch=64, optimizer="sgd", lr=0.1, weight_decay=0.0, warmup=0, cycles=4)


class Autoencoder(nn.Module):
    """Images (B, 3, side, side), side a multiple of 8, to codes of 128 layers and an eighth of the side, and back."""

    def __init__(self, noise: float = 0.01) -> None:
        super().__init__()
        self.noise, widths = noise, (3, 32, 64, 128)
        down = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()) for a, b in pairwise(widths)]
        up = [nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1)) for a, b in pairwise(widths)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up[::-1])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the images as told from the codes of noisy ones."""
        noisy = images + self.noise * torch.randn_like(images)
        return nn.functional.mse_loss(self.decoder(self.encoder(noisy)), images)


class Dissimilar(Sampler[list[int]]):
    """Batches whose images are all of different clusters.

    Where there are fewer clusters than images in a batch, each is taken again only when all have been. A cluster that
    is used up begins anew, so images of small ones come more often.
    """

    def __init__(self, labels: np.ndarray, batch: int) -> None:
        self.clusters = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.count, self.batch = len(labels) // batch, batch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng(int(torch.randint(2**31, ())))
        left: list[list[int]] = [[] for _ in self.clusters]
        for _ in range(len(self)):
            batch: list[int] = []
            while len(batch) < self.batch:
                for number in random.permutation(len(left))[: self.batch - len(batch)]:
                    left[number] = left[number] or random.permutation(self.clusters[number]).tolist()
                    batch.append(left[number].pop())
            yield batch


def find_labels(path: Path, epochs: int, settings: Settings) -> np.ndarray:
    """Return the pseudo-labels of a store's images, from the store where an earlier run has put them."""
    [plain] = policy_transforms(Policy(p=0.0), views=1, size=settings.size)
    images, store, clusters = CachedImages(path, transform=plain), Store(path, "w"), settings.batch
    keys = keys_of(images)
    how = {"clusters": clusters, "epochs": epochs, "size": settings.size, "noise": 0.01, "seed": settings.seed}
    recipe = label_recipe("denoising autoencoder, k-means", keys, **how, steps=settings.steps)
    if not all(store.has(recipe.digest, keys)):
        learning = replace(settings, epochs=epochs, optimizer="adamw", lr=1e-3, cycles=1)
        autoencoder = Autoencoder()
        train(autoencoder, make_loader(images, learning), learning)
        codes, _ = embed(nn.Sequential(autoencoder.encoder, nn.Flatten()), make_loader(images, settings, train=False))
        labels = KMeans(min(clusters, len(codes)), n_init=1, random_state=settings.seed).fit_predict(codes)
        write_labels(store, recipe, keys, labels)
    return read_labels(store, recipe, keys)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--autoencoder-epochs", type=int, help="default: as many as --epochs")


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED, add_options)
    with home_of(arguments, settings, make_sample) as (folder, store):
        unlabelled = (folder / "unlabeled_X.bin").exists()
        path = make_store(folder, store, "unlabeled" if unlabelled else "train", settings)
        test = make_store(folder, store, "test", settings)
        labels = find_labels(path, arguments.autoencoder_epochs or settings.epochs, settings)
        sizes = np.unique(labels, return_counts=True)[1]
        print(f"{len(sizes)} clusters of {sizes.min()} to {sizes.max()} images")

        views = SimCLRTransform(settings.size, cj_strength=0.5, gaussian_blur=0.0)
        data: Any = CachedImages(path, transform=views)
        loader = DataLoader(data, batch_sampler=Dissimilar(labels, settings.batch), num_workers=settings.workers)
        backbone, features = make_backbone(settings, small_images=True)
        train(SimCLR(backbone, features, temperature=0.1), loader, settings)
        save(backbone, arguments)

        [plain] = policy_transforms(Policy(p=0.0), views=1, size=settings.size)
        embedded = embed(backbone, make_loader(CachedImages(test, transform=plain), settings, train=False))
        print("k-means, test images:", clustering_score(*embedded, settings.seed))


if __name__ == "__main__":
    main()

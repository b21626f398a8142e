"""DeepCluster: clusters of the network's own embeddings are the classes that it learns next.

    python pipelines/deepcluster.py data/pv --policy saliency0.5+default --clusters 10000

FOLDER has a subfolder for each class, which only the scores at the end use. Before each epoch the embeddings of all
images are clustered, and the clusters are kept as pseudo-labels in the store beside FOLDER, by the images' content
and under a name that holds the digest of the weights; those of the epoch before are deleted. A run that died can be
traced by them, and another program can train on them. Settings are those of arXiv:1807.05520, without its Sobel filter;
the rate is constant, so that --warmup and --cycles do nothing here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation import clustering_score, embed, linear_probe
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler
from trainer import (
    SAMPLES,
    Settings,
    few,
    home_of,
    make_backbone,
    make_loader,
    make_optimizer,
    read_arguments,
    save,
    steps_of,
    to_device,
)

from augcache import Recipe, Store, build
from augcache.pseudo_labels import keys_of, label_recipe, read_labels, weights_digest, write_labels
from augcache.training.policies import POLICIES, Policy, policy_views
from augcache.upkeep.prune import prune

PUBLISHED = Settings(epochs=200, batch=256, optimizer="sgd", lr=0.05, weight_decay=1e-5)


class Relabelled(Dataset[Any]):
    """First views of a dataset, with other targets."""

    def __init__(self, data: Any, targets: np.ndarray) -> None:
        self.data, self.targets = data, targets

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        views, *_ = self.data[index]
        return views[0], int(self.targets[index])


def cluster(features: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Whiten up to 256 components of embeddings (N, D), scale each embedding to length 1, and cluster by k-means."""
    components = min(256, *features.shape)
    white = PCA(components, whiten=True, random_state=seed).fit_transform(features)
    unit = white / np.linalg.norm(white, axis=1, keepdims=True).clip(1e-12)
    return MiniBatchKMeans(min(clusters, len(unit)), n_init=3, random_state=seed).fit_predict(unit)


def assign(plain: Any, backbone: nn.Module, path: Path, clusters: int, settings: Settings) -> tuple[Recipe, np.ndarray]:
    """Cluster all images by the network as it is, and keep the clusters in the store."""
    keys, store = keys_of(plain), Store(path, "w")
    weights = weights_digest(backbone.state_dict())
    recipe = label_recipe("deepcluster", keys, model=weights, clusters=clusters, size=settings.size, seed=settings.seed)
    features, _ = embed(backbone, make_loader(plain, settings, train=False))
    write_labels(store, recipe, keys, cluster(features, clusters, settings.seed))
    return recipe, read_labels(store, recipe, keys)


def train_epoch(backbone: nn.Module, head: nn.Module, optimizers: list[Any], loader: Any, settings: Settings) -> float:
    """Learn the clusters as classes; return the mean loss."""
    device, steps, total = next(backbone.parameters()).device, steps_of(loader, settings), 0.0
    backbone.train()
    for _, (images, targets) in zip(range(steps), loader, strict=False):
        images, targets = to_device([images, targets], device)  # noqa: PLW2901  # the same batch
        loss = nn.functional.cross_entropy(head(backbone(images)), targets)
        for each in optimizers:
            each.zero_grad()
        loss.backward()
        for each in optimizers:
            each.step()
        total += loss.item()
    return total / steps


def balanced(labels: np.ndarray, data: Dataset[Any], settings: Settings) -> DataLoader[Any]:
    """Batches in which every cluster is as likely as any other, or a large one would be all there is to learn."""
    weights = 1.0 / np.bincount(labels)[labels]
    sampler = WeightedRandomSampler(weights.tolist(), len(labels))
    return DataLoader(data, settings.batch, sampler=sampler, drop_last=True, num_workers=settings.workers)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", choices=POLICIES, default="default")
    parser.add_argument("--clusters", type=int, help="default: 10000, or ten a class where that is less")


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED, add_options)
    with home_of(arguments, settings, lambda _: SAMPLES) as (whole, store):
        folder = few(whole, store.with_name("few"), settings.limit) if settings.limit else whole
        print(build(folder, Recipe("saliencycut"), store, workers=settings.builders))
        data = policy_views(folder, arguments.policy, store=store, size=settings.size, views=1)
        plain = policy_views(folder, Policy(p=0.0), store=store, size=settings.size, views=1)
        clusters = arguments.clusters or min(10_000, 10 * len(plain.classes))

        backbone, features = make_backbone(settings)
        backbone.to("cuda" if torch.cuda.is_available() else "cpu")
        optimizer = make_optimizer(backbone, settings)
        before: tuple[Recipe, np.ndarray] | None = None
        for epoch in range(settings.epochs):
            recipe, labels = assign(plain, backbone, store, clusters, settings)
            head = nn.Linear(features, clusters).to(next(backbone.parameters()).device)  # clusters come in no order
            loader = balanced(labels, Relabelled(data, labels), settings)
            loss = train_epoch(backbone, head, [optimizer, make_optimizer(head, settings)], loader, settings)
            same = (
                "" if before is None else f", NMI with the last {normalized_mutual_info_score(before[1], labels):.3f}"
            )
            print(f"epoch {epoch + 1}/{settings.epochs}: loss {loss:.4f}, {len(np.unique(labels))} clusters{same}")
            if before is not None and before[0] != recipe:
                prune(store, before[0].digest.hex())
            before = recipe, labels
        save(backbone, arguments)

        embedded = embed(backbone, make_loader(plain, settings, train=False))
        print("k-means:", clustering_score(*embedded, settings.seed))
        print(f"linear probe, balanced accuracy: {linear_probe(*embedded):.3f}")


if __name__ == "__main__":
    main()

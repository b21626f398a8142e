"""What embeddings are worth: a clustering score and a linear probe, by scikit-learn and scipy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn


@torch.no_grad()
def embed(backbone: nn.Module, batches: Iterable[tuple[Any, torch.Tensor]]) -> tuple[np.ndarray, np.ndarray]:
    """Embed images.

    Parameters
    ----------
    backbone : Module
        Images (B, 3, side, side) to features (B, D).
    batches : iterable
        Pairs of images, or of a list of views whose first is taken, and class indices.

    Returns
    -------
    (ndarray, ndarray)
        float32 (N, D) and int64 (N,).
    """
    device, training = next(backbone.parameters()).device, backbone.training
    backbone.eval()
    features, targets = [], []
    for images, target in batches:
        view = images[0] if isinstance(images, list | tuple) else images
        features.append(backbone(view.to(device)).float().cpu())
        targets.append(target)
    backbone.train(training)
    return torch.cat(features).numpy(), torch.cat(targets).numpy()


def clustering_score(features: np.ndarray, targets: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Cluster embeddings by k-means into as many clusters as there are classes, and compare with the classes.

    Returns
    -------
    dict
        ``nmi``, normalised mutual information; ``purity``, the share of images of their cluster's commonest class;
        ``acc``, accuracy under the best one-to-one match of clusters and classes. Each from 0 to 1.
    """
    unit = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    clusters = KMeans(len(np.unique(targets)), n_init=10, random_state=seed).fit_predict(unit)
    table = contingency_matrix(targets, clusters)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return {
        "nmi": round(float(normalized_mutual_info_score(targets, clusters)), 4),
        "purity": round(float(table.max(axis=0).sum() / len(targets)), 4),
        "acc": round(float(matched / len(targets)), 4),
    }


def _classifier() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))


def linear_probe(features: np.ndarray, targets: np.ndarray, seed: int = 0) -> float:
    """Balanced accuracy, 0 to 1, of logistic regression on frozen embeddings, over up to five stratified folds.

    Chance is one over the number of classes, however unequal they are. Classes of one image are left out.
    """
    counts = np.bincount(targets)
    usable = counts[targets] > 1
    features, targets = features[usable], targets[usable]
    if len(np.unique(targets)) < 2:
        return float("nan")
    folds = StratifiedKFold(min(5, int(counts[counts > 1].min())), shuffle=True, random_state=seed)
    predicted = cross_val_predict(_classifier(), features, targets, cv=folds)
    return float(balanced_accuracy_score(targets, predicted))


def linear_test(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Accuracy, 0 to 1, of logistic regression on frozen embeddings, on images of a test set."""
    return float(_classifier().fit(*train).score(*test))

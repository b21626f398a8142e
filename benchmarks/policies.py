"""What the saliency policies are worth: the same network, seeds and steps under each, scored by what it learnt.

    python benchmarks/policies.py [DATA] [--quick] [--seeds 3] [--steps 80] [--policies default saliency+jitter ...]

DATA (default ../shared/data) holds ``pv`` and ``plantvillage``. Images become 256x256 copies, saliency is stored
beside them, and SimCLR (RegNetX-200MF) sees them at 64x64. Each seed starts all policies from the same weights.
Embeddings are of the original images, by k-means and by a linear probe under cross-validation; the last row of each
table is the network of "saliency+jitter" on stored views instead. The sets are small: differences below the spread, and
those whose sign changes between seeds, mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))
from evaluation import clustering_score, embed, linear_probe
from methods import make_method
from trainer import Settings, make_backbone, make_loader, train

from augcache import CachedImages, Recipe, build
from augcache.building.build import resize
from augcache.sources import ListFile
from augcache.training.policies import POLICIES, Policy, policy_views

DATA = Path(__file__).parents[2] / "shared" / "data"
SCORES = ("NMI", "purity", "accuracy", "probe")
SEEN = "saliency+jitter, stored views"


def images_of(data: Path) -> dict[str, list[tuple[Path, dict[str, str]]]]:
    """Images of each set with their labels, by the name of the question that the labels answer."""
    pv = []
    for path in sorted((data / "pv").rglob("*.*")):
        source = path.relative_to(data / "pv").parts[0]
        if "masks" not in path.parent.name and path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            fault = {"PV, fault": path.name.split("-")[0]} if source == "roboflow" else {}
            pv.append((path, {"PV, kind of image": source, **fault}))
    leaves = sorted((data / "plantvillage" / "color").rglob("*.*"))
    return {"pv": pv, "plantvillage": [(path, {"PlantVillage, disease": path.parent.name}) for path in leaves]}


def make_store(images: list[tuple[Path, dict[str, str]]], root: Path, store: Path) -> CachedImages:
    """Copies of the images, and their saliency."""
    listing = store.with_suffix(".txt")
    listing.write_text("".join(f"{path.relative_to(root)}\n" for path, _ in images))
    resize(ListFile(listing, root), Recipe("resize", width=256, height=256), store)
    build(store, Recipe("saliencycut"), store)
    return CachedImages(store, Recipe("resize", width=256, height=256))


def scores(features: np.ndarray, labels: list[str | None], seed: int) -> tuple[float, ...]:
    """NMI, purity, accuracy and linear probe of the images that have a label."""
    known = np.array([label is not None for label in labels])
    _, targets = np.unique([label for label in labels if label is not None], return_inverse=True)
    return *clustering_score(features[known], targets, seed).values(), linear_probe(features[known], targets, seed)


def run_set(copies: CachedImages, questions: dict[str, list[str | None]], names: list[str], settings: Settings) -> dict:
    """Scores of one seed: {(question, policy): scores}."""
    found = {}
    plain = {
        "originals": policy_views(copies, Policy(p=0.0), size=settings.size, views=1),
        "stored views": policy_views(copies, Policy(p=1.0), store=copies.store, size=settings.size, views=1),
    }
    for name in ["untrained", *names]:
        torch.manual_seed(settings.seed)
        backbone, features = make_backbone(settings)
        if name != "untrained":
            data = policy_views(copies, name, store=copies.store if POLICIES[name].p else None, size=settings.size)
            counts = {"images": len(data), "batch": settings.batch, "epochs": settings.epochs}
            with contextlib.redirect_stdout(io.StringIO()):
                train(make_method("simclr", backbone, features, **counts), make_loader(data, settings), settings)
        seen = ["originals", "stored views"] if name == "saliency+jitter" else ["originals"]
        for what in seen:
            embedded, _ = embed(backbone, make_loader(plain[what], settings, train=False))
            for question, labels in questions.items():
                row = name if what == "originals" else SEEN
                found[question, row] = scores(embedded, labels, settings.seed)
    return found


def report(question: str, labels: list[str | None], found: list[dict]) -> None:
    """Print a table of means and spreads, and where each policy stands against the default, seed by seed."""
    known = [label for label in labels if label is not None]
    rows = [row for asked, row in found[0] if asked == question]
    print(f"\n| {question}: {len(known)} images, {len(set(known))} classes | {' | '.join(SCORES)} | to default |")
    print("|---" * (len(SCORES) + 2) + "|")
    for row in rows:
        values = np.array([each[question, row] for each in found])
        cells = [f"{mean:.2f} ± {std:.2f}" for mean, std in zip(values.mean(0), values.std(0, ddof=1), strict=True)]
        verdict = ""
        if row != "default" and "default" in rows:
            change = values - np.array([each[question, "default"] for each in found])
            better = ["better" if each > 0 else "worse" if each < 0 else "equal" for each in change[:, -1]]
            counts = ", ".join(
                f"{better.count(word)} {word}" for word in ("better", "equal", "worse") if word in better
            )
            verdict = f"probe {change[:, -1].mean():+.2f} ({counts}), NMI {change[:, 0].mean():+.2f}"
        print(f"| {row} | {' | '.join(cells)} | {verdict} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true", help="two seeds and a few steps: shows that it runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument(
        "--policies", nargs="+", choices=POLICIES, default=["default", "saliency+jitter", "saliency0.5+default"]
    )
    arguments = parser.parse_args()
    seeds, steps = (2, 4) if arguments.quick else (arguments.seeds, arguments.steps)
    started, root = time.perf_counter(), arguments.data.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        for name, images in images_of(root).items():
            copies = make_store(images, root, Path(scratch) / f"{name}.augcache")
            labels = {str(path.relative_to(root)): asked for path, asked in images}
            asked = sorted({question for _, each in images for question in each})
            questions = {question: [labels[each].get(question) for each in copies.names] for question in asked}
            found = []
            for seed in range(seeds):
                settings = Settings(
                    backbone="regnetx_002", size=64, epochs=1, batch=32, optimizer="adamw", lr=1e-3, weight_decay=1e-4,
                    warmup=0, workers=0, seed=seed,
                )  # fmt: skip
                epochs = -(-steps // (len(copies) // settings.batch))
                settings = Settings(**{**vars(settings), "epochs": epochs, "warmup": epochs // 10})
                found.append(run_set(copies, questions, arguments.policies, settings))
                print(f"{name}, seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            for question, each in questions.items():
                report(question, each, found)
            sys.stdout.flush()  # a set takes minutes
    print(f"\nSimCLR, {steps} steps of 32 images, {seeds} seeds, mean and standard deviation;", end=" ")
    print(f"{time.perf_counter() - started:.0f} s in all.")


if __name__ == "__main__":
    main()

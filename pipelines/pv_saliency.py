"""PV images by a saliency store: any of six self-supervised methods under any policy, then what it learnt.

    python pipelines/pv_saliency.py data/pv --method simsiam --policy saliency0.5+default

FOLDER has a subfolder for each class, which only the scores at the end use. Its saliency is computed once, into the
store beside it; under the policies that always take the stored view, training reads no original. Settings are those
of each method's paper.
"""

from __future__ import annotations

import argparse

from evaluation import clustering_score, embed, linear_probe
from methods import METHODS, make_method
from trainer import SAMPLES, Settings, few, home_of, make_backbone, make_loader, read_arguments, save, train

from augcache import Recipe, build
from augcache.training.policies import POLICIES, Policy, policy_views

# On ImageNet with a ResNet-50; learning rates are for a batch of 256, by the linear rule where a paper's was larger.
PUBLISHED = {
    "simclr": Settings(epochs=100, lr=0.3, weight_decay=1e-6),
    "simsiam": Settings(epochs=100, optimizer="sgd", lr=0.05, weight_decay=1e-4, warmup=0),
    "byol": Settings(epochs=1000, lr=0.2, weight_decay=1.5e-6),
    "moco": Settings(epochs=200, optimizer="sgd", lr=0.03, weight_decay=1e-4, warmup=0),
    "swav": Settings(epochs=200, lr=0.6, weight_decay=1e-6, warmup=0),
    "barlowtwins": Settings(epochs=1000, lr=0.2, weight_decay=1.5e-6),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", choices=METHODS, default="simsiam")
    parser.add_argument("--policy", choices=POLICIES, default="saliency0.5+default")


def main() -> None:
    arguments, settings = read_arguments(__doc__, lambda chosen: PUBLISHED[chosen.method], add_options)
    with home_of(arguments, settings, lambda _: SAMPLES) as (whole, store):
        folder = few(whole, store.with_name("few"), settings.limit) if settings.limit else whole
        print(build(folder, Recipe("saliencycut"), store, workers=settings.builders))
        small = {"crops": 6, "crop_size": settings.size // 2} if arguments.method == "swav" else {}
        data = policy_views(folder, arguments.policy, store=store, size=settings.size, **small)
        backbone, features = make_backbone(settings)
        counts = {"images": len(data), "batch": settings.batch, "epochs": settings.epochs}
        train(make_method(arguments.method, backbone, features, **counts), make_loader(data, settings), settings)
        save(backbone, arguments)

        plain = policy_views(folder, Policy(p=0.0), store=store, size=settings.size, views=1)
        embedded = embed(backbone, make_loader(plain, settings, train=False))
        print("k-means:", clustering_score(*embedded, settings.seed))
        print(f"linear probe, balanced accuracy: {linear_probe(*embedded):.3f}")


if __name__ == "__main__":
    main()

"""Which way up: a network learns images by telling by how many quarter turns each was turned.

    python pipelines/rotation.py data/pv --policy saliency0.5+default

FOLDER has a subfolder for each class, which only the scores at the end use. Its saliency is computed once, into the
store beside it; `policy` says how often an image is its stored view. All four turns of an image are in one batch, as
in arXiv:1803.07728; settings are those of its CIFAR-10 experiments, with a cosine in place of steps of the rate.
"""

from __future__ import annotations

from typing import Any

import torch
from evaluation import clustering_score, embed, linear_probe
from torch import nn
from trainer import SAMPLES, Settings, few, home_of, make_backbone, make_loader, read_arguments, save, train

from augcache import Recipe, build
from augcache.training.policies import POLICIES, Policy, policy_views

PUBLISHED = Settings(epochs=100, batch=128, optimizer="sgd", lr=0.1, weight_decay=5e-4, warmup=0)


class Rotation(nn.Module):
    """A network with a classifier of four turns."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(features, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (4 B, 4) of all turns of images (B, 3, side, side): first all upright, then all by 90 degrees ..."""
        turned = torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
        return self.head(self.backbone(turned))


def turns_of(scores: torch.Tensor) -> torch.Tensor:
    """What `Rotation` ought to have said."""
    return torch.arange(4, device=scores.device).repeat_interleave(len(scores) // 4)


@torch.no_grad()
def accuracy(model: Rotation, batches: Any) -> float:
    """Share of turns that are told right; chance is 0.25."""
    model.eval()
    device, right = next(model.parameters()).device, []
    for (images,), _ in batches:
        scores = model(images.to(device))
        right.append((scores.argmax(1) == turns_of(scores)).float())
    return torch.cat(right).mean().item()


def main() -> None:
    arguments, settings = read_arguments(
        __doc__, PUBLISHED, lambda parser: parser.add_argument("--policy", choices=POLICIES, default="default")
    )
    with home_of(arguments, settings, lambda _: SAMPLES) as (whole, store):
        folder = few(whole, store.with_name("few"), settings.limit) if settings.limit else whole
        print(build(folder, Recipe("saliencycut"), store, workers=settings.builders))
        data = policy_views(folder, arguments.policy, store=store, size=settings.size, views=1)
        backbone, features = make_backbone(settings)
        model, loss = Rotation(backbone, features), nn.CrossEntropyLoss()

        def loss_of(batch: Any) -> torch.Tensor:
            (images,), _ = batch
            scores = model(images)
            return loss(scores, turns_of(scores))

        train(model, make_loader(data, settings), settings, loss_of)
        save(backbone, arguments)

        plain = policy_views(folder, Policy(p=0.0), store=store, size=settings.size, views=1)
        batches = make_loader(plain, settings, train=False)
        print(f"turns told right: {accuracy(model, batches):.3f}")
        embedded = embed(backbone, batches)
        print("k-means:", clustering_score(*embedded, settings.seed))
        print(f"linear probe, balanced accuracy: {linear_probe(*embedded):.3f}")


if __name__ == "__main__":
    main()

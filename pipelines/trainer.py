"""The plain torch training loop that the pipelines share, with its settings, backbone, optimiser and schedule."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from lightly.models.utils import get_weight_decay_parameters
from lightly.utils.lars import LARS
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from augcache import CachedImages, Recipe, build
from augcache.storage.store_path import store_path
from augcache.training.collate import Collate
from augcache.training.policies import POLICIES, policy_views

SAMPLES = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True)
class Settings:
    """How to train; each field is an option of every pipeline. Each pipeline sets what its paper says.

    `lr` is for the batch as it is. With `cycles` above 1 the cosine restarts, in cycles of equal length. `steps` ends
    an epoch after so many batches; `limit` takes only so many images, and keeps their store no longer than the run.
    0 is all.
    """

    backbone: str = "resnet50"
    size: int = 224
    epochs: int = 100
    batch: int = 256
    optimizer: str = "lars"
    lr: float = 0.3
    weight_decay: float = 1e-6
    warmup: int = 10
    cycles: int = 1
    workers: int = 2
    seed: int = 0
    steps: int = 0
    limit: int = 0

    @property
    def builders(self) -> int | None:
        """Worker processes of builds: all cores, unless everything is to stay in this process."""
        return None if self.workers else 0


SMOKE = {
    **{"backbone": "resnet18", "size": 32, "epochs": 2, "batch": 4, "warmup": 1, "cycles": 1},
    **{"workers": 0, "steps": 3, "limit": 24},
}


def read_arguments(
    description: str | None,
    published: Settings | Callable[[argparse.Namespace], Settings],
    add: Callable[[argparse.ArgumentParser], Any] | None = None,
) -> tuple[argparse.Namespace, Settings]:
    """Read FOLDER, --smoke, an option for each field of `Settings`, and what `add` adds; seed torch.

    `published` holds the defaults, or tells them from the other options.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="the dataset; with --smoke, made of samples if left out")
    parser.add_argument("--smoke", action="store_true", help="a small sample, a small network, a few steps")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the trained backbone's weights there")
    for field in dataclasses.fields(Settings):
        default = getattr(published, field.name, None)
        text = "default: as published" if default is None else f"default: {default}"
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), help=text)
    if add is not None:
        add(parser)
    arguments = parser.parse_args()
    if arguments.folder is None and not arguments.smoke:
        parser.error("give FOLDER, or --smoke for a run on a small sample")
    names = [field.name for field in dataclasses.fields(Settings)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    base = published if isinstance(published, Settings) else published(arguments)
    settings = dataclasses.replace(base, **{**(SMOKE if arguments.smoke else {}), **given})
    torch.manual_seed(settings.seed)
    if arguments.smoke:
        torch.set_num_threads(1)  # steps this small are faster so, and on a busy machine many times
    return arguments, settings


@contextmanager
def home_of(
    arguments: argparse.Namespace, settings: Settings, make_sample: Callable[[Path], Path]
) -> Iterator[tuple[Path, Path]]:
    """Give the dataset's folder, and where its store goes: where augcache has it; of a part, in scratch space."""
    if not (arguments.smoke or settings.limit):
        yield arguments.folder, store_path(arguments.folder)
        return
    with TemporaryDirectory() as scratch:
        yield arguments.folder or make_sample(Path(scratch) / "sample"), Path(scratch) / "few.augcache"


def few(folder: Path, into: Path, count: int) -> Path:
    """Link `count` images of `folder`, evenly taken from the sorted list of them all, so that few is every class."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    for path in files[:: max(1, len(files) // count)][:count]:
        link = into / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return into


def make_backbone(settings: Settings, *, small_images: bool = False) -> tuple[nn.Module, int]:
    """Make a timm network, untrained and without its classifier, and the width of its features.

    With `small_images`, a ResNet's stem is a 3x3 convolution without max-pooling, as SimCLR has it for CIFAR-10.
    """
    network = timm.create_model(settings.backbone, num_classes=0)
    if small_images:
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, 1, 1, bias=False)
        network.maxpool = nn.Identity()
    return network, network.num_features


def views_of(copies: CachedImages, policy: str, settings: Settings) -> Dataset[Any]:
    """Open resized copies under a policy; saliency, where it needs any, is computed once and kept beside the copies."""
    if POLICIES[policy].p == 0:
        return policy_views(copies, policy, size=settings.size)
    print(build(copies.store.path, Recipe("saliencycut"), copies.store.path, workers=settings.builders))
    return policy_views(copies, policy, store=copies.store, size=settings.size)


def make_loader(
    data: Dataset[Any], settings: Settings, *, train: bool = True, collate: Callable[[list[Any]], Any] | None = None
) -> DataLoader[Any]:
    """Batches for training, shuffled and all of one size, or for evaluation, in order."""
    return DataLoader(
        data, settings.batch, shuffle=train, drop_last=train, num_workers=settings.workers,
        persistent_workers=settings.workers > 0, pin_memory=torch.cuda.is_available(), collate_fn=collate or Collate(),
    )  # fmt: skip  # a line of how and a line of with what


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """LARS, SGD with momentum 0.9 or AdamW; biases and normalisation are not decayed (nor, by LARS, adapted)."""
    decayed, free = get_weight_decay_parameters([model])
    groups = [
        {"params": [each for each in decayed if each.requires_grad], "weight_decay": settings.weight_decay},
        {"params": [each for each in free if each.requires_grad], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    if settings.optimizer not in ("lars", "sgd"):
        raise SystemExit(f"--optimizer {settings.optimizer}: give lars, sgd or adamw")
    return (LARS if settings.optimizer == "lars" else torch.optim.SGD)(groups, lr=settings.lr, momentum=0.9)


def make_schedule(optimizer: torch.optim.Optimizer, settings: Settings, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine to zero with restarts (arXiv:1608.03983); one call a step, `steps` an epoch."""
    warmup, total = settings.warmup * steps, settings.epochs * steps
    cycle = max(1.0, (total - warmup) / settings.cycles)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return (1 + math.cos(math.pi * ((step - warmup) % cycle) / cycle)) / 2

    return LambdaLR(optimizer, factor)


def steps_of(loader: DataLoader[Any], settings: Settings) -> int:
    """Batches of an epoch."""
    if len(loader) == 0:
        raise SystemExit(f"{len(loader.dataset)} images make no batch of {settings.batch}: give a smaller --batch")
    return min(len(loader), settings.steps or len(loader))


def train(
    model: nn.Module,
    loader: DataLoader[Any],
    settings: Settings,
    loss_of: Callable[[Any], torch.Tensor] | None = None,
) -> list[float]:
    """Train a method.

    Parameters
    ----------
    model : Module
        What is trained; moved to the GPU where there is one.
    loader : DataLoader
        Batches ``(views, targets)``, or whatever `loss_of` takes.
    settings : Settings
        How.
    loss_of : callable, optional
        From a batch on the device to its loss; default ``model(views)``.

    Returns
    -------
    list of float
        Mean loss of each epoch.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    steps = steps_of(loader, settings)
    optimizer = make_optimizer(model, settings)
    schedule = make_schedule(optimizer, settings, steps)
    losses = []
    for epoch in range(settings.epochs):
        started, total = time.perf_counter(), 0.0
        for _, batch in zip(range(steps), loader, strict=False):
            batch = to_device(batch, device)  # noqa: PLW2901  # the same batch
            loss = model(batch[0]) if loss_of is None else loss_of(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            if not math.isfinite(total):
                raise SystemExit(f"epoch {epoch + 1}: the loss is no longer a number: give a smaller --lr")
        losses.append(total / steps)
        print(f"epoch {epoch + 1}/{settings.epochs}: loss {losses[-1]:.4f}, {time.perf_counter() - started:.1f} s")
    return losses


def save(backbone: nn.Module, arguments: argparse.Namespace) -> None:
    """Write a backbone's weights where --save says."""
    if arguments.save is not None:
        torch.save(backbone.state_dict(), arguments.save)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move tensors, in lists, tuples and dicts too."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: to_device(each, device) for name, each in batch.items()}
    return [to_device(each, device) for each in batch] if isinstance(batch, list | tuple) else batch

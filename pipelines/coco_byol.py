"""COCO's images with BYOL by PyTorch Lightning: its own augmentations, and background removal as one of them.

    python pipelines/coco_byol.py train2017 --background 0.5

FOLDER is any folder of images. Copies of 256x256 (centre crops) are stored beside it, so no JPEG is decoded for
training. With ``--background P`` their saliency is stored too, and with chance P a view shows what the cut holds of the
image, on black. Augmentations and settings are those of arXiv:2006.07733: crops of 224, blur of 23x23 always on one
view and rarely on the other, solarisation on the latter; LARS, 0.2 for a batch of 256.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning
import torch
from lightly.transforms.multi_view_transform import MultiViewTransform
from methods import BYOL
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
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
)

from augcache import CachedImages, HashedSaliencyDataset, Recipe, build
from augcache.building.build import resize
from augcache.training.policies import MEAN, STD

PUBLISHED = Settings(size=224, epochs=1000, batch=4096, lr=3.2, weight_decay=1.5e-6, warmup=10)


def augmentations(size: int, blur: float, solarise: float) -> v2.Compose:
    """One of BYOL's two distributions (arXiv:2006.07733, appendix B)."""
    kernel = round(23 * size / 224) // 2 * 2 + 1
    return v2.Compose([
        v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=v2.InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(kernel, (0.1, 2.0))], p=blur),
        v2.RandomSolarize(128, p=solarise),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip


def open_views(folder: Any, store: Any, background: float, settings: Settings) -> Dataset[Any]:
    """Store what is missing; open pairs of views of it."""
    copies, limit = Recipe("resize", width=256, height=256, fit="crop"), settings.limit or None
    print(resize(folder, copies, store, limit=limit, workers=settings.builders))
    views = [augmentations(settings.size, 1.0, 0.0), augmentations(settings.size, 0.1, 0.2)]
    if background == 0:
        return CachedImages(store, copies, MultiViewTransform(views))
    print(build(store, Recipe("saliencycut"), store, workers=settings.builders))
    images = CachedImages(store, copies)
    return HashedSaliencyDataset(images, store=store, view="cutout", p=background, transform=views)


class Lit(lightning.LightningModule):
    """A method as Lightning calls it."""

    def __init__(self, method: nn.Module, settings: Settings, steps: int) -> None:
        super().__init__()
        self.method, self.settings, self.steps = method, settings, steps

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        loss = self.method(batch[0])
        self.log("loss", loss, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.print(f"epoch {self.current_epoch + 1}: loss {self.trainer.callback_metrics['loss']:.4f}")

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = make_optimizer(self.method, self.settings)
        schedule = make_schedule(optimizer, self.settings, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--background", type=float, default=0.0, metavar="P", help="chance of background removal")


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED, add_options)
    with home_of(arguments, settings, lambda _: SAMPLES) as (folder, store):
        loader = make_loader(open_views(folder, store, arguments.background, settings), settings)
        steps = steps_of(loader, settings)
        backbone, features = make_backbone(settings)
        trainer = lightning.Trainer(
            max_epochs=settings.epochs, limit_train_batches=steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Lit(BYOL(backbone, features, settings.epochs * steps), settings, steps), loader)
        save(backbone, arguments)


if __name__ == "__main__":
    main()

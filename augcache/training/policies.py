"""Named augmentation policies: how often a view is the stored one, how it is coloured, and what follows.

    data = policy_views("data/pv", "saliency0.5+default", size=224)             # folder with its store beside it
    data = policy_views(base, "saliency0.8+jitter0.8", store="pv.augcache")     # any map-style dataset
    views, target = data[0]      # views: list of float32 (3, size, size), each drawn on its own
    data = policy_views("data/pv", "saliency0.5+default", crops=6, crop_size=96)    # SwAV, DINO: 2 views, 6 small crops

`POLICIES` names the seven policies of the study that augcache comes from; a `Policy` of one's own does as well. A
``DataLoader`` with its default collation gives ``(list of (B, 3, size, size), targets)``, which is what lightly's
losses and examples take. Imports torch and, when called, torchvision.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.utils.data import Dataset

from augcache.errors import RecipeError
from augcache.extras import require
from augcache.images.decode import as_pixels
from augcache.recipe import Recipe
from augcache.sources.dataset_items import image_key, replaced, value_at
from augcache.storage.store import Store
from augcache.training.dataset_images import check_map_style
from augcache.training.indices import checked_index
from augcache.training.labels import of_dataset, of_items
from augcache.training.recolour import PaletteJitter
from augcache.training.saliency_dataset import HashedSaliencyDataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, by which published backbones normalise


@dataclass(frozen=True)
class Policy:
    """How a view of an image is made.

    Attributes
    ----------
    p : float
        Chance, 0 to 1, that a view is the stored one and not the original.
    jitter : float
        Chance, 0 to 1, that a stored view is re-coloured and not in the regions' mean colours.
    default : bool
        Whether SimCLR's augmentations follow; else a view is the whole image, resized and centre-cropped.
    """

    p: float
    jitter: float = 0.0
    default: bool = False


POLICIES: dict[str, Policy] = {
    "default": Policy(0.0, default=True),
    "saliency": Policy(1.0),
    "saliency+default": Policy(1.0, default=True),
    "saliency0.5+default": Policy(0.5, default=True),
    "saliency+jitter": Policy(1.0, jitter=1.0),
    "saliency0.5+jitter": Policy(0.5, jitter=1.0),
    "saliency0.8+jitter0.8": Policy(0.8, jitter=0.8),
}


def policy_views(
    base: Any = None,
    policy: str | Policy = "default",
    *,
    store: str | os.PathLike[str] | Store | None = None,
    recipe: Recipe | str | None = None,
    views: int = 2,
    size: int = 224,
    crops: int = 0,
    crop_size: int = 96,
    view: str = "segments",
    on_miss: str = "error",
) -> Dataset[Any]:
    """Open a dataset whose images are lists of augmented views, as self-supervised trainers take them.

    Parameters
    ----------
    base, store, recipe, view, on_miss
        As for `HashedSaliencyDataset`. A map-style dataset under a policy with ``p=0`` needs no store.
    policy : str or Policy
        A name of `POLICIES`, or one's own.
    views : int
        Views of `size` x `size` pixels for each image.
    size : int
        Their side.
    crops : int
        Further small crops of each image, as in SwAV and DINO; they follow the views in the list.
    crop_size : int
        Their side.

    Returns
    -------
    Dataset
        Items are ``(list of float32 (3, side, side), target)``, normalised by ImageNet's mean and deviation; those of
        a wrapped dataset keep their shape otherwise. Each view is drawn independently: original or stored view,
        colours, augmentations. Original and record are read at most once for each item.

    Raises
    ------
    RecipeError
        If there is no such policy.
    AugcacheError
        If torchvision is not installed; also as `HashedSaliencyDataset` does.

    Notes
    -----
    Under "saliency", which neither re-colours nor augments, the views of an image are all alike: it is the baseline
    of the study that tells what the segmentation alone is worth.

    Examples
    --------
    >>> data = policy_views("data/pv", "saliency0.5+default", size=64)    # doctest: +SKIP
    """
    chosen = _chosen(policy)
    transforms = policy_transforms(chosen, views, size, crops, crop_size)
    if chosen.p == 0 and store is None and base is not None and not isinstance(base, str | os.PathLike):
        return _Augmented(base, transforms)
    return HashedSaliencyDataset(
        base, store=store, recipe=recipe, view=view, p=chosen.p, on_miss=on_miss, transform=transforms,
        jitter=PaletteJitter(p=chosen.jitter) if chosen.jitter else None,
    )  # fmt: skip  # one line of meaning


def _chosen(policy: str | Policy) -> Policy:
    if isinstance(policy, Policy):
        return policy
    if policy not in POLICIES:
        raise RecipeError(f"no policy {policy!r}: give a Policy, or one of {', '.join(POLICIES)}")
    return POLICIES[policy]


def policy_transforms(
    policy: str | Policy, views: int = 2, size: int = 224, crops: int = 0, crop_size: int = 96
) -> list[Callable[[Any], Any]]:
    """Make what turns images into the views of a policy, one callable for each view; see `policy_views`."""
    chosen = _chosen(policy)
    v2 = require("torchvision.transforms.v2", "train", "a policy")
    tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]

    def crop(side: int, low: float, high: float) -> list[Any]:
        return [v2.RandomResizedCrop(side, scale=(low, high)), v2.RandomHorizontalFlip()]

    def view(side: int, geometry: list[Any]) -> Any:
        return v2.Compose([_as_pil, *geometry, *(_colours(v2, side) if chosen.default else []), *tensor])

    # Scales of DINO (arXiv:2104.14294) with small crops, of SimCLR (arXiv:2002.05709) without.
    whole = crop(size, 0.4 if crops else 0.08, 1.0) if chosen.default else [v2.Resize(size), v2.CenterCrop(size)]
    return [view(size, whole)] * views + [view(crop_size, crop(crop_size, 0.05, 0.4))] * crops


def _colours(v2: Any, side: int) -> list[Any]:
    """SimCLR's colour jitter, grey and blur (arXiv:2002.05709, appendix A), the blur a tenth of the side wide."""
    return [
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(max(3, side // 10 | 1), (0.1, 2.0))], p=0.5),
    ]


def _as_pil(image: Any) -> Image.Image:
    """Return any image as what torchvision crops fastest; arrays it would pass over without a word."""
    return image if isinstance(image, Image.Image) else Image.fromarray(as_pixels(image))


class _Augmented(Dataset[Any]):
    """A dataset whose images are lists of views; for the policy that looks nothing up."""

    def __init__(self, base: Any, transforms: list[Callable[[Any], Any]]) -> None:
        check_map_style(base)
        self.base, self.transforms = base, transforms

    @property
    def classes(self) -> Any:
        """Class names of the dataset, where it has them."""
        return of_dataset(self.base, "classes") or []

    @property
    def targets(self) -> Any:
        """Class index of each item, where the dataset has them."""
        found = of_items(self.base, "targets")
        return [] if found is None else found

    def __len__(self) -> int:
        return len(self.base)

    def __getitem__(self, index: int) -> Any:
        item = self.base[checked_index(index, len(self))]
        key = image_key(item)
        return replaced(item, key, [transform(value_at(item, key)) for transform in self.transforms])

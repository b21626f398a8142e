"""augcache: an expensive image transform runs once per distinct picture, and is looked up by content forever.

`build` computes a `Recipe` (a `transform` with its version and parameters) for every picture of a source into a
`Store`. `HashedSaliencyDataset`, `SaliencyLookup` and `PaletteJitter` find and re-colour saliency at training time;
`CachedImages` and `VideoFrames` read stored copies and frames. Every error is an `AugcacheError`. The command line does
the same: ``augcache --help``.

Examples
--------
>>> report = build("pictures", Recipe("saliencycut"))  # writes pictures.augcache
>>> dataset = HashedSaliencyDataset("pictures", p=0.5)
>>> picture, target = dataset[0]
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and {"augcache", "augcache.cli.main"} & set(sys.orig_argv):
    del sys.path[0]  # `python -m augcache`: the current folder, where a stranger's cv2.py may lie

from augcache._version import __version__

if TYPE_CHECKING:
    from augcache.building.build import build
    from augcache.building.build_report import Report
    from augcache.errors import AugcacheError
    from augcache.images.keys import content_key
    from augcache.recipe import Recipe, transform
    from augcache.storage.store import Store
    from augcache.training.cached_images import CachedImages
    from augcache.training.recolour import PaletteJitter
    from augcache.training.saliency_dataset import HashedSaliencyDataset, SaliencyLookup
    from augcache.training.video_frames import VideoFrames

# Where each other public name lives. Loaded when first used: torch and cv2 cost seconds that `augcache --help`
# and build workers must not pay.
_HOMES = {
    "AugcacheError": "errors",
    "CachedImages": "training.cached_images",
    "HashedSaliencyDataset": "training.saliency_dataset",
    "PaletteJitter": "training.recolour",
    "Recipe": "recipe",
    "Report": "building.build_report",
    "SaliencyLookup": "training.saliency_dataset",
    "Store": "storage.store",
    "VideoFrames": "training.video_frames",
    "build": "building.build",
    "content_key": "images.keys",
    "transform": "recipe",
}

__all__ = [
    "AugcacheError",
    "CachedImages",
    "HashedSaliencyDataset",
    "PaletteJitter",
    "Recipe",
    "Report",
    "SaliencyLookup",
    "Store",
    "VideoFrames",
    "__version__",
    "build",
    "content_key",
    "transform",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'augcache' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"augcache.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

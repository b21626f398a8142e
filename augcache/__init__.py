"""augcache: an expensive image transform runs once per distinct image, and is looked up by content forever.

`build` computes a `Recipe` (a `transform` with its version and parameters) for every image of a source into a
`Store`; `resize` and `extract_frames` store copies and video frames. `HashedSaliencyDataset`, `SaliencyLookup` and
`PaletteJitter` find and re-colour saliency at training time; `CachedImages` and `VideoFrames` read stored copies and
frames. Every error is an `AugcacheError`. The command line does the same: ``augcache --help``.

Examples
--------
>>> report = build("images", Recipe("saliencycut"))  # writes images.augcache
>>> dataset = HashedSaliencyDataset("images", p=0.5)
>>> image, target = dataset[0]
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and {"augcache", "augcache.cli.main"} & set(sys.orig_argv):
    del sys.path[0]  # `python -m augcache`: the current folder, where a stranger's cv2.py may lie

from augcache._version import __version__

if TYPE_CHECKING:
    from augcache.building.build import build, extract_frames, resize
    from augcache.building.build_report import Report
    from augcache.errors import (
        AugcacheError,
        BackendError,
        CorruptError,
        MissError,
        RecipeError,
        SourceError,
        StoreError,
    )
    from augcache.images.keys import content_key
    from augcache.pages.preview import write_sheet
    from augcache.pages.report import write_report
    from augcache.recipe import Recipe, transform
    from augcache.storage.store import Store
    from augcache.testing import check_transform
    from augcache.training.cached_images import CachedImages
    from augcache.training.collate import Collate
    from augcache.training.policies import policy_views
    from augcache.training.recolour import PaletteJitter
    from augcache.training.saliency_dataset import HashedSaliencyDataset
    from augcache.training.saliency_lookup import SaliencyLookup
    from augcache.training.video_frames import VideoFrames
    from augcache.upkeep.export import export
    from augcache.upkeep.merge import merge
    from augcache.upkeep.prune import compact, prune
    from augcache.upkeep.verify import verify

# Where each public name lives. Loaded when first used: torch and cv2 cost seconds that `augcache --help` and build
# workers must not pay.
_HOMES = {
    "AugcacheError": "errors",
    "BackendError": "errors",
    "CachedImages": "training.cached_images",
    "Collate": "training.collate",
    "CorruptError": "errors",
    "HashedSaliencyDataset": "training.saliency_dataset",
    "MissError": "errors",
    "PaletteJitter": "training.recolour",
    "Recipe": "recipe",
    "RecipeError": "errors",
    "Report": "building.build_report",
    "SaliencyLookup": "training.saliency_lookup",
    "SourceError": "errors",
    "Store": "storage.store",
    "StoreError": "errors",
    "VideoFrames": "training.video_frames",
    "build": "building.build",
    "check_transform": "testing",
    "compact": "upkeep.prune",
    "content_key": "images.keys",
    "export": "upkeep.export",
    "extract_frames": "building.build",
    "merge": "upkeep.merge",
    "policy_views": "training.policies",
    "prune": "upkeep.prune",
    "resize": "building.build",
    "transform": "recipe",
    "verify": "upkeep.verify",
    "write_report": "pages.report",
    "write_sheet": "pages.preview",
}

__all__ = [
    "AugcacheError",
    "BackendError",
    "CachedImages",
    "Collate",
    "CorruptError",
    "HashedSaliencyDataset",
    "MissError",
    "PaletteJitter",
    "Recipe",
    "RecipeError",
    "Report",
    "SaliencyLookup",
    "SourceError",
    "Store",
    "StoreError",
    "VideoFrames",
    "__version__",
    "build",
    "check_transform",
    "compact",
    "content_key",
    "export",
    "extract_frames",
    "merge",
    "policy_views",
    "prune",
    "resize",
    "transform",
    "verify",
    "write_report",
    "write_sheet",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'augcache' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"augcache.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

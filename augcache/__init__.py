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

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and {"augcache", "augcache.cli"} & set(sys.orig_argv):
    del sys.path[0]  # `python -m augcache`: the current folder, where a stranger's cv2.py may lie

from augcache._version import __version__

# Not left to __getattr__: the function has the name of its module, which would come first. A library that is broken,
# which may show as any error, is told of when it is needed, so that the command line can say it in one line.
with contextlib.suppress(Exception):
    from augcache.build import build

if TYPE_CHECKING:
    from augcache.cached import CachedImages
    from augcache.clips import VideoFrames
    from augcache.dataset import HashedSaliencyDataset, SaliencyLookup
    from augcache.errors import AugcacheError
    from augcache.keys import content_key
    from augcache.recipe import Recipe, transform
    from augcache.recolour import PaletteJitter
    from augcache.report import Report
    from augcache.store import Store

# Where each other public name lives. Loaded when first used: torch and cv2 cost seconds that `augcache --help`
# and build workers must not pay.
_HOMES = {
    "AugcacheError": "errors",
    "CachedImages": "cached",
    "HashedSaliencyDataset": "dataset",
    "PaletteJitter": "recolour",
    "Recipe": "recipe",
    "Report": "report",
    "SaliencyLookup": "dataset",
    "Store": "store",
    "VideoFrames": "clips",
    "build": "build",
    "content_key": "keys",
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

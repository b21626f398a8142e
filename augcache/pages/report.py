"""One self-contained page of a store: what is in it, drawn; how its results are spread; where they came from."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from augcache._version import __version__
from augcache.errors import StoreError
from augcache.pages.cards import card
from augcache.pages.distributions import classes, distributions
from augcache.pages.survey import Survey, names_of, survey
from augcache.paths import home_expanded
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.storage.choose_recipe import choose
from augcache.storage.manifest import DECODED
from augcache.storage.open_store import open_store
from augcache.storage.runs import runs
from augcache.storage.store import Store
from augcache.storage.store_path import source_folder
from augcache.text import date_text, duration_text, size_text
from augcache.whole_file import write_whole

__all__ = ["write_report"]

COUNT = 300  # images drawn, of all recipes together: a page of some megabytes, whatever the store holds
MOST_FAILURES = 1000  # listed


def write_report(
    store: str | os.PathLike[str] | Store,
    output: str | os.PathLike[str],
    *,
    count: int = COUNT,
    recipe: Recipe | str | None = None,
    source: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> str:
    """Write one HTML page that shows a store; it needs no network and no other file.

    Parameters
    ----------
    store : path-like or Store
        With records of any transform. Saliency records are drawn as original, map, segments, cut and re-coloured
        views, frames and copies as they are, other records array by array.
    output : path-like
        File to write.
    count : int
        Images to draw, shared out among the recipes; about 10 KB each. Where a recipe has more, those that are drawn
        are chosen by content key, which is as good as at random, a quarter of them at least from each status.
        Totals and distributions are over all records, whatever `count` says.
    recipe : Recipe or str, optional
        One to show alone: the recipe, the name of its transform, or the start of its digest in hex.
    source : path-like, optional
        Folder of the originals; default the store's name without ``.augcache``. Images that are not there are shown
        without their original.
    progress : callable, optional
        Called with a `Progress`, which counts records.

    Returns
    -------
    str
        `output`.

    Raises
    ------
    StoreError
        If the store holds nothing, or the page cannot be written.

    Examples
    --------
    >>> write_report("images.augcache", "report.html")
    'report.html'
    """
    store = open_store(store)
    recipes = store.recipes() if recipe is None else [choose(store, recipe, lambda _: True, "records")]
    if not recipes:
        raise StoreError(f"{store.path}: there is nothing in it yet; build it first")
    counts = Progress(sum(store.count(each) for each in recipes))
    folder = source_folder(store.path) if source is None else Path(home_expanded(source))
    found = [survey(store, each, max(1, count // len(recipes)), counts, progress) for each in recipes]
    found.sort(key=lambda each: not each.regions)  # saliency first: frames and copies are its originals
    names = names_of(store, {key for each in found for key in each.shown})
    cards = [
        card(number, store, each, key, status, names.get(key), folder)
        for number, each in enumerate(found)
        for key, status in each.shown.items()
    ]
    failures = [_failed(number, row) for number, each in enumerate(found) for row in store.failures(each.recipe)]
    data = {
        "made": f"{date_text(time.time_ns())}, augcache {__version__}",
        "store": os.fspath(store.path),
        "totals": _totals(store, recipes, found, len(failures)),
        "recipes": [_recipe(store, each) for each in found],
        "cards": sorted(cards, key=lambda each: (each["recipe"], each["name"], each.get("number", 0))),
        "failures": failures[:MOST_FAILURES],
        "failed": len(failures),
    }
    try:
        write_whole(output, _page(os.path.basename(os.path.abspath(store.path)), data).encode("utf-8", "replace"))
    except OSError as error:
        raise StoreError(
            f"{output}: the page cannot be written ({error.strerror}); give a name such as report.html"
        ) from error
    return os.fspath(output)


def _page(title: str, data: dict[str, Any]) -> str:
    """Fill the template in. What a store says reaches the page as data alone, never as markup or script."""
    files = resources.files("augcache.pages")
    parts = {name: files.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")}
    script = parts["page.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # "<" in a JSON string may be written so, and then nothing in it can close the element that it stands in.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = files.joinpath("page.html").read_text("utf-8")
    for name, value in (
        ("TITLE", html.escape(title.encode("utf-8", "replace").decode())),
        ("DIGEST", digest),
        ("STYLE", parts["page.css"]),
        ("SCRIPT", script),
        ("DATA", text),
    ):
        page = page.replace(f"[[{name}]]", value)
    return page


def _totals(store: Store, recipes: list[Recipe], found: list[Survey], failed: int) -> list[tuple[str, str]]:
    sources = sum(
        sum(1 for _ in store.scan(b"sources", prefix, values=False))
        for prefix in (DECODED, *(recipe.digest for recipe in recipes))
    )
    totals = [
        ("records", f"{sum(each.total for each in found):,}"),
        ("sources", f"{sources:,}"),
        ("failures", f"{failed:,}"),
        ("on disk", size_text((store.path / "data.mdb").stat().st_size)),
    ]
    damaged = sum(each.statuses.get("damaged", 0) for each in found)
    return [*totals, ("damaged", f"{damaged:,}")] if damaged else totals


def _recipe(store: Store, found: Survey) -> dict[str, Any]:
    recipe, notes = found.recipe, runs(store, found.recipe)
    info = next(each for each in store.info().recipes if each.digest == recipe.digest.hex())
    versions = {name: str(value) for name, value in info.provenance.items() if name != "created"}
    return {
        "name": recipe.name,
        "digest": recipe.digest.hex(),
        "version": recipe.version,
        "params": {name: json.dumps(value) for name, value in recipe.params.items()},
        "created": date_text(info.provenance["created"]),
        "versions": versions,
        "total": found.total,
        "shown": len(found.shown),
        "statuses": found.statuses,
        "distributions": [*distributions(found, notes), *classes(store, found)],
        "runs": [
            {
                "started": date_text(each.started), "ended": each.ended, "took": duration_text(each.seconds),
                "computed": each.computed, "failed": each.failed, "workers": each.workers, "host": each.host,
                "times": ", ".join(f"{name} {duration_text(spent)}" for name, spent in each.times.items()),
            }
            for each in reversed(notes)
        ],
    }  # fmt: skip  # tables


def _failed(number: int, failure: Any) -> dict[str, Any]:
    return {"recipe": number, "name": failure.name, "status": "failed", "reason": failure.reason}

"""How the results of a recipe are spread: bars of counts over all of its records."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from augcache.pages.survey import Survey
from augcache.storage.manifest import DECODED
from augcache.storage.runs import Run
from augcache.storage.store import Store
from augcache.text import size_text

BARS = 24
MOST_CLASSES = 24


def distributions(found: Survey, notes: Sequence[Run]) -> list[dict[str, Any]]:
    """Return the distributions of a recipe, those that it has."""
    some = []
    if found.areas:
        edges = np.linspace(0, 1, 21)
        shares = [(float(low), float(high), f"{low:.0%} to {high:.0%}") for low, high in itertools.pairwise(edges)]
        some.append(_bars("Salient area", found.areas, shares, f"median {np.median(found.areas):.0%}", "area"))
    if found.regions:
        middle = f"median {np.median(found.regions):.0f}"
        some.append(_bars("Regions per image", found.regions, _whole_steps(found.regions), middle, "regions"))
    pace = _pace(notes)
    if pace is not None:
        some.append(pace)
    if found.sizes:
        edges = np.linspace(min(found.sizes), max(found.sizes) + 1, BARS + 1)
        steps = [(float(a), float(b), f"{size_text(a)} to {size_text(b)}") for a, b in itertools.pairwise(edges)]
        some.append(
            _bars("Bytes per record", found.sizes, steps, f"mean {size_text(float(np.mean(found.sizes)))}", None)
        )
    return some


def _whole_steps(values: Sequence[int]) -> list[tuple[float, float, str]]:
    low, high = min(values), max(values) + 1
    step = max(1, -(-(high - low) // BARS))
    return [(a, a + step, str(a) if step == 1 else f"{a} to {a + step - 1}") for a in range(low, high, step)]


def _bars(
    title: str, values: Sequence[float], steps: list[tuple[float, float, str]], note: str, field: str | None
) -> dict[str, Any]:
    """Count values into steps, each from its first number up to its second; the last step takes that in, too."""
    edges = np.array([steps[0][0], *(high for _, high, _ in steps)])
    counts, _ = np.histogram(values, edges)
    bars = [(label, int(count), low, high) for (low, high, label), count in zip(steps, counts, strict=True)]
    return {"title": title, "note": note, "field": field, "bars": bars, "ends": _ends(bars)}


def _pace(notes: Sequence[Run]) -> dict[str, Any] | None:
    """Milliseconds an item, as the workers of all runs measured them."""
    pace: Counter[int] = Counter()
    for run in notes:
        pace.update(dict(run.pace))
    if not pace:
        return None
    bins = range(min(pace), max(pace) + 1)
    bars = [(f"{_ms(2 ** (k / 2))} to {_ms(2 ** ((k + 1) / 2))}", pace[k], 0, 0) for k in bins]
    middle = bins[int(np.searchsorted(np.cumsum([pace[k] for k in bins]), sum(pace.values()) / 2))]
    note = f"median about {_ms(2 ** (middle / 2 + 0.25))}"
    return {"title": "Time per item", "note": note, "field": None, "bars": bars, "ends": _ends(bars)}


def _ends(bars: Sequence[tuple[str, int, float, float]]) -> tuple[str, str]:
    """Where the first bar begins and the last one ends."""
    return bars[0][0].split(" to ")[0], bars[-1][0].split(" to ")[-1]


def _ms(milliseconds: float) -> str:
    value, unit = (milliseconds / 1000, "s") if milliseconds >= 1000 else (milliseconds, "ms")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def classes(store: Store, found: Survey) -> list[dict[str, Any]]:
    """Return how many sources each class has: those that a recipe lists itself, or those of the decoded images."""
    labels: Counter[str] = Counter(row.label for row in store.sources(found.recipe.digest))
    labels = labels or Counter(row.label for row in store.sources(DECODED))
    if len(labels) < 2:
        return []
    bars: list[tuple[str, int, int, int]] = [
        (name or "(none)", count, 0, 0) for name, count in labels.most_common(MOST_CLASSES)
    ]
    rest = sum(labels.values()) - sum(count for _, count, *_ in bars)
    note = f"{len(labels)} classes" + (f"; {rest:,} images are of others" if rest else "")
    ends = (bars[0][0], bars[-1][0])
    return [{"title": "Images per class", "note": note, "field": None, "bars": bars, "ends": ends}]

"""What `Store.info` tells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from augcache.records.html import table
from augcache.text import date_text, size_text


@dataclass(frozen=True)
class RecipeInfo:
    """One recipe of a store."""

    digest: str
    transform: str
    version: int
    params: dict[str, Any]
    entries: int
    provenance: dict[str, Any]


@dataclass(frozen=True)
class StoreInfo:
    """What is in a store; `bytes` is the size of its data file on disk."""

    store: str
    entries: int
    sources: int
    failures: int
    bytes: int
    recipes: list[RecipeInfo]

    def _repr_html_(self) -> str:
        """Tabulate the recipes, for a notebook."""
        counts = (
            f"{self.entries} entries",
            f"{self.sources} sources",
            f"{self.failures} failures",
            size_text(self.bytes),
        )
        rows = (
            (
                each.digest[:8], each.transform, each.version, json.dumps(each.params), each.entries,
                date_text(each.provenance["created"]),
            )
            for each in self.recipes
        )  # fmt: skip  # a row
        heads = ("recipe", "transform", "version", "parameters", "entries", "first made")
        return table((self.store, *counts), ()) + table(heads, rows)

"""verify(): is every entry what was written, do the tables agree, and are the sources what they were."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from augcache.errors import AugcacheError, RecipeError, SourceError
from augcache.progress import Progress
from augcache.recipe import Recipe, import_path
from augcache.storage import entries
from augcache.storage.manifest import DECODED, Failure, Source
from augcache.storage.open_store import open_store
from augcache.storage.runs import parse_run, run_rows
from augcache.storage.store import Store
from augcache.upkeep import originals

_REPAIR = "save what is sound with 'augcache merge NEW.augcache {store}', and build into it what is missing"
# Kinds of problems, and what to do about each.
CORRUPT, ORPHANS, ROWS, MISSING = (
    "corrupt entries",
    "entries of no recipe",
    "malformed rows",
    "sources without an entry",
)
DIFFERENT, BROKEN, FEW = "entries that came out different", "recipes that cannot be run", "too few recomputed"
LEFT_OUT = "recipes left out"
CHANGED, VANISHED, NEW = "changed sources", "vanished sources", "new sources"
UNREADABLE, SWAPPED = "sources that cannot be read", "changed sources of unchanged size and time"
_ADVICE = {
    CORRUPT: _REPAIR,
    ORPHANS: _REPAIR,
    ROWS: _REPAIR,
    MISSING: "run the build again",
    DIFFERENT: "the transform or a library of it changed without a new version; build into a new store",
    BROKEN: "install what they need, or leave --recompute out",
    LEFT_OUT: (
        "their code is not an installed transform, and a store must not choose what runs; name what you trust, as by "
        "'augcache verify {store} --recompute N --transform {name}'"
    ),
    FEW: (
        "the rest changed, vanished, are no image files, or are of recipes that were not run; see 'augcache verify "
        "{store} --sources'"
    ),
    CHANGED: "run the build again",
    VANISHED: "their entries stay; nothing need be done",
    NEW: "run the build again",
    SWAPPED: "give them a new time (touch), which a build goes by, and run it again",
    UNREADABLE: "check their permissions and their disk",
}
_OUTCOMES = {
    originals.CHANGED: CHANGED,
    originals.SWAPPED: SWAPPED,
    originals.VANISHED: VANISHED,
    originals.NEW: NEW,
    originals.UNREADABLE: UNREADABLE,
}


@dataclass(frozen=True)
class Problem:
    """One kind of thing that is not as it should be.

    Attributes
    ----------
    kind : str
        What they are, such as "corrupt entries".
    names : list of str
        All of them: content keys as hex, or names of sources, raw: `augcache.text.printable` makes them fit to print.
    advice : str
        What to do.
    """

    kind: str
    names: list[str]
    advice: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes
    ----------
    store : str
        Path of the store.
    entries, sources, failures : int
        Rows that were checked.
    corrupt : int
        Entries that cannot be read.
    recomputed : int
        Entries that were computed anew and compared.
    compared : int
        Source files that were compared with the manifest.
    problems : list of Problem
        Empty where all is right.
    seconds : float
        Wall time.
    """

    store: str
    entries: int
    sources: int
    failures: int
    corrupt: int
    recomputed: int
    compared: int
    problems: list[Problem]
    seconds: float


def verify(
    store: str | os.PathLike[str] | Store,
    *,
    recompute: int = 0,
    sources: bool = False,
    digests: bool = False,
    source: str | os.PathLike[str] | None = None,
    transforms: Sequence[str] = (),
    progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Check a store: its pages, every entry and array, and that its tables agree.

    Parameters
    ----------
    store : path-like or Store
        What to check; nothing in it is changed.
    recompute : int
        How many entries, chosen at random, to compute anew from their sources and compare byte for byte. This
        alone imports transforms: augcache's own, those of installed packages, and `transforms`.
    sources : bool
        Whether to compare the source files with the manifest, by size and time; by their bytes where the time differs.
    digests : bool
        With `sources`: by the bytes of all of them. That finds a file in whose place another of its size and time came.
    source : path-like, optional
        Their folder. Default: the store's name without ``.augcache``.
    transforms : sequence of str
        Further ones to run for `recompute`, such as ``"mypkg.mod:fn"``. Recipes of others are listed as a problem.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Verification

    Raises
    ------
    CorruptError
        If the file is so damaged that it cannot be opened.
    SourceError
        If sources are asked for and their folder is not there, or digests without sources.
    RecipeError
        If no recipe of the store is of one of `transforms`.

    Examples
    --------
    >>> verify("images.augcache").problems
    []
    """
    started = time.monotonic()
    if digests and not sources:
        raise SourceError("digests are of the source files: give --sources (sources=True) as well")
    store = open_store(store, check=True)
    store.check_pages()
    folder = originals.originals_folder(store.path, source) if recompute or sources else None
    check = _Check(store, Progress(len(store) + recompute), progress)
    check.entries()
    total = check.counts.done
    rows = check.manifest()
    failures = check.failures()
    check.runs()
    compared = 0
    if folder is not None and recompute:
        run = check.choose(transforms)
        check.recompute(recompute, originals.recompute(store, check.rows(), folder, run))
    if folder is not None and sources:
        compared = check.sources(originals.compare(store, check.rows(), folder, digests=digests))
    problems = [
        Problem(kind, names, _ADVICE[kind].format(store=store.path, name=names[0]))
        for kind, names in check.found.items()
    ]
    return Verification(
        str(store.path), total, rows, failures, len(check.found.get(CORRUPT, ())), check.counts.reused, compared,
        problems, time.monotonic() - started,
    )  # fmt: skip  # counts in a row


@dataclass
class _Check:
    store: Store
    counts: Progress  # computed: sound entries; failed: corrupt ones; reused: recomputed
    progress: Callable[[Progress], None] | None
    found: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, name: str) -> None:
        self.found.setdefault(kind, []).append(name)

    def choose(self, named: Sequence[str]) -> list[Recipe]:
        """Return the recipes that may be run, and note the others."""
        recipes = self.store.recipes()
        held = {recipe.transform for recipe in recipes}
        for name in named:
            if import_path(name) not in held:
                raise RecipeError(
                    f"{self.store.path}: no recipe here is of the transform {name!r}; it holds: "
                    f"{', '.join(sorted(held)) or 'none'}"
                )
        run = [recipe for recipe in recipes if originals.trusted(recipe, named)]
        for transform in sorted(held - {recipe.transform for recipe in run}):
            self.note(LEFT_OUT, transform)
        return run

    def report(self) -> None:
        if self.progress is not None:
            self.progress(self.counts)

    def entries(self) -> None:
        known = {recipe.digest for recipe in self.store.recipes()}
        for digest in self.store.digests():
            found, malformed = entries.rows(self.store, digest)
            for key in malformed:
                self.entry(key, sound=False)
            for piece in entries.batches(found):
                for key, data in entries.read(self.store, digest, piece):
                    if data is not None:  # None: pruned while this runs
                        self.entry(key, sound=entries.is_sound(data))
                        if digest not in known:
                            self.note(ORPHANS, key.hex())
                self.report()

    def entry(self, key: bytes, *, sound: bool) -> None:
        self.counts.computed += sound
        self.counts.failed += not sound
        if not sound:
            self.note(CORRUPT, key.hex())

    def manifest(self) -> int:
        """Check every manifest row; returns how many there are."""
        digests = [recipe.digest for recipe in self.store.recipes()]
        count = 0
        for key, value in self.store.scan(b"sources"):
            count += 1
            row = _row(key, value)
            if row is None:
                self.note(ROWS, os.fsdecode(key[16:]))
                continue
            wanted = digests if key.startswith(DECODED) else [key[:16]]
            if not any(self.store.has(digest, [row.key])[0] for digest in wanted):
                self.note(MISSING, row.name)
        return count

    def rows(self) -> Iterator[originals.Row]:
        for key, value in self.store.scan(b"sources"):
            row = _row(key, value)
            if row is not None:
                yield key[:16], row

    def failures(self) -> int:
        count = 0
        for key, value in self.store.scan(b"failures"):
            count += 1
            try:
                Failure.from_bytes(value)
            except AugcacheError:
                self.note(ROWS, os.fsdecode(key[16:]))
        return count

    def runs(self) -> None:
        for key, value in run_rows(self.store):
            if parse_run(value) is None:
                self.note(ROWS, f"run {key[3:11].hex()}")

    def sources(self, outcomes: Iterator[tuple[str, str]]) -> int:
        """Note what became of the source files; returns how many were compared."""
        count = 0
        for name, outcome in outcomes:
            count += outcome != originals.NEW
            if outcome != originals.SAME:
                self.note(_OUTCOMES[outcome], name)
        return count

    def recompute(self, wanted: int, outcomes: Iterator[tuple[str, str]]) -> None:
        while self.counts.reused < wanted:
            name, outcome = next(outcomes, ("", ""))
            if not outcome:
                self.note(FEW, f"{self.counts.reused} of {wanted}")
                return
            if outcome not in (originals.SAME, originals.DIFFERENT):
                self.note(BROKEN, outcome)
                continue
            self.counts.reused += 1
            self.report()
            if outcome == originals.DIFFERENT:
                self.note(DIFFERENT, name)


def _row(key: bytes, value: bytes) -> Source | None:
    try:
        row = Source.from_bytes(value)
    except AugcacheError:
        return None
    return row if row.row_key() == key[16:] else None

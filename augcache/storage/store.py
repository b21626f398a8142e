"""The store: records under recipe digest + content key, and the manifest of where they came from.

Every commit is one durable transaction: after a crash the store is as the last commit left it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from augcache.errors import CorruptError, StoreError
from augcache.images.keys import ContentKey
from augcache.paths import home_expanded, is_there
from augcache.recipe import Recipe
from augcache.records import codec
from augcache.storage.environment import Environment, Transaction, shared
from augcache.storage.info import RecipeInfo, StoreInfo
from augcache.storage.manifest import DECODED, Failure, Source, row_key
from augcache.storage.store_path import SUFFIX, check_name, check_path, is_taken
from augcache.storage.tables import (
    CHUNK,
    READABLE,
    Databases,
    as_bytes,
    chunk,
    count_entries,
    digests,
    fetch,
    mark_format,
    parse_recipe,
    put_recipe,
    put_records,
    rows_of,
)

Result = TypeVar("Result")


@dataclass
class Batch:
    """What one commit writes: all of it or nothing."""

    records: dict[ContentKey, bytes] = field(default_factory=dict)
    sources: list[Source] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stale: list[bytes] = field(default_factory=list)
    """Keys (`Source.row_key`) of manifest rows to remove first."""

    def __bool__(self) -> bool:
        return bool(self.records or self.sources or self.failures or self.stale)


class Store:
    """A content-addressed store of records.

    Parameters
    ----------
    path : path-like
        The store's folder, such as ``pv.augcache``; a leading ``~`` is the home folder.
    mode : {"r", "w"}
        "r" reads a store that exists; "w" also writes, and makes the store where there is none.
    check : bool
        Whether the structure of the whole file is checked before anything is read, even where it was sound once and
        nothing has written to it since: a disk may still have damaged it.

    Raises
    ------
    StoreError
        If there is no store at `path`, it is of a newer format, or it cannot be opened.

    Notes
    -----
    Cheap to make and to pickle (only the path travels); safe to use after a fork, from threads, and while
    another process writes.

    Examples
    --------
    >>> store = Store("images.augcache")
    >>> image = np.asarray(Image.open("images/cat/1.png"))
    >>> record = store.get(Recipe("saliencycut"), content_key(image))
    >>> record["cut"].shape == image.shape[:2]
    True
    """

    def __init__(self, path: str | os.PathLike[str], mode: str = "r", *, check: bool = False) -> None:
        if mode not in ("r", "w"):
            raise StoreError(f"store mode {mode!r}: give 'r' or 'w'")
        self.path = Path(home_expanded(path))
        self.mode = mode
        check_name(self.path)
        if mode == "w" and not is_there(self.path / "data.mdb", StoreError):
            _make(self.path)
        check_path(self.path)
        self._env = shared(self.path, writable=mode == "w", check=check)
        self._check_format()

    def _check_format(self) -> None:
        raw = self._env.read(lambda transaction, databases: as_bytes(transaction.get(b"format", db=databases[b"meta"])))
        if raw is None:
            raise StoreError(f"{self.path}: an LMDB database, but not an augcache store; give another --store")
        if raw not in [b"%d" % number for number in READABLE]:
            raise StoreError(
                f"{self.path}: store format {raw.decode(errors='replace')}, this augcache reads "
                f"format {' and '.join(map(str, READABLE))}; install a newer augcache"
            )

    def __reduce__(self) -> tuple[type[Store], tuple[str, str]]:
        return Store, (str(self.path), self.mode)

    def __repr__(self) -> str:
        names = ", ".join(f"{recipe.name} {recipe.digest.hex()[:8]}" for recipe in self.recipes())
        return f"Store({str(self.path)!r}, {len(self)} entries of {names or 'no recipe yet'})"

    def _repr_html_(self) -> str:
        """Tabulate what is in it, for a notebook."""
        return self.info()._repr_html_()

    # -- records ------------------------------------------------------------------------------------------

    def get(self, recipe: Recipe, key: ContentKey) -> codec.StoredRecord | None:
        """Return the record of one image, or None where there is none; raises `CorruptError`."""
        raw = self.get_bytes(recipe.digest, key)
        return None if raw is None else codec.decode(raw, (self.path, key))

    def get_many(self, recipe: Recipe, keys: Iterable[ContentKey]) -> list[codec.StoredRecord | None]:
        """Return the records of several images, read in one transaction."""
        keys, digest = list(keys), recipe.digest
        raws = self._env.read(
            lambda transaction, databases: [fetch(transaction, databases, digest, key, self.path) for key in keys]
        )
        return [
            None if raw is None else codec.decode(raw, (self.path, key)) for raw, key in zip(raws, keys, strict=True)
        ]

    def get_bytes(self, digest: bytes, key: ContentKey) -> bytes | None:
        """Return the stored bytes of one record, undecoded."""
        return self._env.read(lambda transaction, databases: fetch(transaction, databases, digest, key, self.path))

    def __contains__(self, entry: tuple[Recipe, ContentKey]) -> bool:
        recipe, key = entry
        return self.has(recipe.digest, [key])[0]

    def has(self, digest: bytes, keys: Iterable[ContentKey]) -> list[bool]:
        """Tell for each key whether the recipe has an entry."""
        keys = list(keys)
        return self._env.read(
            lambda transaction, databases: [
                transaction.get(digest + key, db=databases[b"index"]) is not None for key in keys
            ]
        )

    def keys(self, recipe: Recipe) -> Iterator[ContentKey]:
        """Content keys of a recipe's entries, in byte order."""
        for entry, _ in self.scan(b"index", recipe.digest):
            yield ContentKey(entry[16:])

    def count(self, recipe: Recipe) -> int:
        """Count a recipe's entries."""
        if [digest for digest, _ in self._rows(b"recipes")] == [recipe.digest]:
            return len(self)  # known without a scan
        return sum(1 for _ in self.scan(b"index", recipe.digest, values=False))

    def __len__(self) -> int:
        return self._entries(b"index")

    def put(self, recipe: Recipe, key: ContentKey, record: Mapping[str, np.ndarray]) -> None:
        """Store one record durably. For many, `commit` a `Batch`: a commit waits for the disk."""
        self.commit(recipe, Batch(records={key: codec.encode(record)}))

    def commit(self, recipe: Recipe, batch: Batch, *, prefix: bytes = DECODED, replace: bool = False) -> None:
        """Write a batch in one durable transaction.

        Parameters
        ----------
        recipe : Recipe
            Whose results they are.
        batch : Batch
            Encoded records, manifest rows and failures. A source row clears an earlier failure of its name.
        prefix : bytes
            16 bytes, which set of manifest rows; see `manifest.DECODED`.
        replace : bool
            Whether a record that is there already is written anew. Without it, the first one stays.
        """

        def work(transaction: Transaction, databases: Databases) -> None:
            digest = recipe.digest
            put_recipe(transaction, databases, recipe)
            put_records(transaction, databases, digest, batch.records, replace)
            for row in batch.stale:
                transaction.delete(prefix + row, db=databases[b"sources"])
            for source in batch.sources:
                transaction.put(prefix + source.row_key(), source.to_bytes(), db=databases[b"sources"])
                transaction.delete(digest + row_key(source.name), db=databases[b"failures"])
            for failure in batch.failures:
                transaction.put(digest + row_key(failure.name), failure.to_bytes(), db=databases[b"failures"])

        self.write(work)

    # -- recipes, manifest, failures ------------------------------------------------------------------------

    def recipes(self) -> list[Recipe]:
        """Recipes with results in this store, oldest first."""
        rows = self._recipe_rows()
        rows.sort(key=lambda row: (row[1]["created"], row[0].to_json()))
        return [recipe for recipe, _ in rows]

    def _recipe_rows(self) -> list[tuple[Recipe, dict[str, Any]]]:
        try:
            return [parse_recipe(digest, value) for digest, value in self._rows(b"recipes")]
        except CorruptError as error:
            raise CorruptError(f"{self.path}: {error}; copy the store again, or delete it and rebuild") from error

    def sources(self, prefix: bytes = DECODED) -> Iterator[Source]:
        """Manifest rows, sorted by name and frame."""
        for _, value in self.scan(b"sources", prefix):
            yield Source.from_bytes(value)

    def source(self, name: str, *, frame: int | None = None, prefix: bytes = DECODED) -> Source | None:
        """Manifest row of one source, or None."""
        raw = self._env.read(
            lambda transaction, databases: as_bytes(
                transaction.get(prefix + row_key(name, frame), db=databases[b"sources"])
            )
        )
        return None if raw is None else Source.from_bytes(raw)

    def rows_of(self, names: Iterable[str], prefix: bytes = DECODED) -> dict[str, list[Source]]:
        """Manifest rows of each name, read in one transaction: one of an image, one a frame of a video, or none."""
        names = list(names)
        found = self._env.read(partial(rows_of, prefix=prefix, names=names))
        return {name: [Source.from_bytes(row) for row in rows] for name, rows in zip(names, found, strict=True)}

    def failures(self, recipe: Recipe | None = None) -> Iterator[Failure]:
        """List the sources that failed, of one recipe or of all."""
        for _, value in self.scan(b"failures", b"" if recipe is None else recipe.digest):
            yield Failure.from_bytes(value)

    def failure(self, recipe: Recipe, name: str) -> Failure | None:
        """Return the failure of one source, or None."""
        raw = self._env.read(
            lambda transaction, databases: as_bytes(
                transaction.get(recipe.digest + row_key(name), db=databases[b"failures"])
            )
        )
        return None if raw is None else Failure.from_bytes(raw)

    def info(self) -> StoreInfo:
        """Count what is in the store."""
        infos, counts = [], self._env.read(count_entries)
        for recipe, provenance in self._recipe_rows():
            digest, count = recipe.digest.hex(), counts.get(recipe.digest, 0)
            infos.append(RecipeInfo(digest, recipe.transform, recipe.version, recipe.params, count, provenance))
        size = (self.path / "data.mdb").stat().st_size
        sources, failures = self._entries(b"sources"), self._entries(b"failures")
        return StoreInfo(str(self.path), len(self), sources, failures, size, infos)

    # -- upkeep ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other builds out of this store for as long as the block runs; readers are not kept out."""
        import filelock  # slow to import, and readers lock nothing

        lock = filelock.FileLock(self.path / "writer.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise StoreError(
                f"{self.path}: another augcache command is writing to this store; "
                "wait for it to finish and run this again, or give another --store"
            ) from error
        except (OSError, NotImplementedError) as error:
            raise StoreError(
                f"{self.path}: its file system has no locks ({error}); build on a local disk and copy the store there"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def check_pages(self) -> None:
        """Check the structure of the whole file, as is done when a store from elsewhere is opened first."""
        self._env.check_pages()

    def replace_compacted(self) -> None:
        """Copy the data file without its free pages, and put the copy in its place; a writer must hold `exclusive`."""
        aside = self.path / "compact.tmp"  # left over where this was killed
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            self._env.replace_compacted(aside)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be compacted ({error.strerror}); it is as it was") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    # -- rows -----------------------------------------------------------------------------------------------

    def _entries(self, database: bytes) -> int:
        return self._env.read(lambda transaction, databases: int(transaction.stat(databases[database])["entries"]))

    def _rows(self, database: bytes) -> list[tuple[bytes, bytes]]:
        return list(self.scan(database, b""))

    def digests(self) -> list[bytes]:
        """Recipe digests that have entries."""
        return self._env.read(digests)

    def read(self, work: Callable[[Transaction, Databases], Result]) -> Result:
        """Run `work` in one read transaction; what it returns must not point into the map."""
        return self._env.read(work)

    def write(self, work: Callable[[Transaction, Databases], Result]) -> Result:
        """Run `work` in one durable transaction; it may be run again from the start."""
        if self.mode != "w":
            raise StoreError(f"{self.path}: opened for reading; open it with Store(path, 'w') to write")
        return self._env.write(work)

    def scan(self, database: bytes, prefix: bytes = b"", *, values: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """Rows of one table whose key starts with `prefix`, in byte order, read some thousand at a time."""
        start = prefix
        while True:
            rows = self._env.read(partial(chunk, database=database, prefix=prefix, start=start, values=values))
            yield from rows
            if len(rows) < CHUNK:
                return
            start = rows[-1][0] + b"\0"  # the next possible key


def _make(path: Path) -> None:
    """Make an empty store: aside first, and then by one rename, so that nobody ever sees half of it."""
    if path.name in ("", ".."):  # ".", "..", "/"
        raise StoreError(f"{path}: give the store a name, such as name{SUFFIX}")
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if is_taken(path) and os.listdir(path):
            raise StoreError(f"{path}: a folder with other things in it, not a store; give another --store")
        aside.mkdir(parents=True)
        environment = Environment(str(aside), writable=True)
        environment.write(mark_format)
        environment.close()
        aside.rename(path)
    except OSError as error:
        if not os.path.exists(path / "data.mdb"):  # else another process was first, with the same result
            raise StoreError(f"{path}: cannot be made ({error.strerror}); give another --store") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)

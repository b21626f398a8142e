"""Is a data file a sound LMDB file? LMDB itself trusts its pages, and a damaged one can end the process.

Every page that can be reached is checked before LMDB follows it: its header, the place and size of every node, the
order of the keys, and that no page is used twice. The layout is that of LMDB 0.9 on a 64-bit machine (``mdb.c``).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from augcache.errors import StoreError
from augcache.storage.lmdb_meta import DB, INTEGER_KEYS, damaged

_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4  # page flags
_BIG, _TREE = 1, 2  # node flags: the value is on overflow pages; it is the record of a named database
_HEADER, _NODE = 16, 8  # bytes
_LONGEST_KEY, _DEEPEST = 511, 32
_NONE = (1 << 64) - 1  # root of an empty database
_FREE, _MAIN = "the list of free pages", "the list of tables"
_TOGETHER = 1024  # leaf pages looked at together: keeps memory small whatever the size of the file


class DamageError(Exception):
    """What is wrong with a page; `check` makes a `CorruptError` of it."""


def check(path: str, meta: np.void) -> None:
    """Check all pages of one state of a data file.

    Parameters
    ----------
    path : str
        The data file.
    meta : numpy.void
        The meta page of the state, from `meta.read_meta`; a read transaction must hold the state while this runs.

    Raises
    ------
    CorruptError
        If following the pages could lead LMDB astray. What stands in the records is not looked at.

    Notes
    -----
    Vectorised by level of a tree; reads the pages of the tables and the first of each slab, not the records.
    """
    page, last = int(meta["free"]["pad"]), int(meta["last"])
    try:
        data = _map(path, last + 1, page)
        file = _File(data, page, last, len(data) // page - 1)
        runs = [_run([0, 1], [1, 1])]
        runs += [_free_pages(file, values) for values in _walk(file, meta["free"], runs, _FREE)]
        for values in _walk(file, meta["main"], runs, _MAIN):
            for name, record in _trees(file, values):
                _walk(file, record, runs, name)
        starts, counts = np.concatenate(runs, axis=1)
        order = np.argsort(starts)
        _require(starts[order][:-1] + counts[order][:-1] <= starts[order][1:], "a page that is used twice")
    except DamageError as error:
        raise damaged(path, str(error)) from error


def _map(path: str, pages: int, page: int) -> np.ndarray:
    """As many whole pages as the file has."""
    try:
        with open(path, "rb") as file:
            pages = min(pages, os.fstat(file.fileno()).st_size // page)
            return np.frombuffer(mmap.mmap(file.fileno(), pages * page, access=mmap.ACCESS_READ), np.uint8)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error})") from error


@dataclass(frozen=True)
class _File:
    data: np.ndarray  # uint8
    page: int
    last: int  # number of the last page, by the meta page
    there: int  # number of the last page that the file has; those after it may be free, and no more

    @property
    def halves(self) -> np.ndarray:
        return np.asarray(self.data.view(np.uint16))

    def words(self, at: np.ndarray, order: str = "=") -> np.ndarray:
        """8 bytes from each position, aligned or not; a position must leave room for them."""
        everywhere = np.ndarray(len(self.data) - 7, f"{order}u8", self.data, strides=(1,))
        return np.asarray(everywhere[at].astype(np.uint64))


@dataclass(frozen=True)
class _Nodes:
    """Nodes of the pages of one level, in order."""

    owner: np.ndarray  # which of the pages
    slot: np.ndarray  # which node of it
    key: np.ndarray  # position of the key in the file
    key_size: np.ndarray
    low: np.ndarray  # three 16-bit fields: size of the value and flags, or number of the child page
    high: np.ndarray
    flags: np.ndarray


_Keys = tuple[np.ndarray, np.ndarray]  # positions in the file, and lengths


@dataclass
class _Counts:
    entries: int = 0
    overflows: int = 0  # pages


@dataclass(frozen=True)
class _Values:
    """Leaf nodes of a tree: keys, and where the values lie."""

    nodes: _Nodes
    at: np.ndarray
    size: np.ndarray


def _require(condition: np.ndarray | np.bool_ | bool, what: str) -> None:
    if not np.all(condition):
        raise DamageError(what)


def _run(starts: np.ndarray | list[int], counts: np.ndarray | list[int]) -> np.ndarray:
    return np.array([starts, counts], np.int64)


def _walk(file: _File, record: np.void, runs: list[np.ndarray], name: str) -> list[_Values]:
    """Check one tree from its root to its leaves, and add its pages to `runs`; returns the leaves of the two lists."""
    integer = name == _FREE
    _require(int(record["flags"]) == (INTEGER_KEYS if integer else 0), f"flags of {name}")
    depth, root = int(record["depth"]), int(record["root"])
    if root == _NONE:
        _require(depth == 0 and int(record["entries"]) == 0, f"counts of {name}")
        return []
    _require(0 < depth <= _DEEPEST and root <= file.there, f"root of {name}")
    pages, levels, total = np.array([root], np.int64), [], 0
    for _ in range(depth - 1):
        runs.append(_run(pages, np.ones_like(pages)))
        nodes = _nodes(file, pages, _BRANCH, 1 if integer else 2, f"a branch page of {name}")
        levels.append(nodes)
        total += len(pages)
        pages = nodes.low | nodes.high << 16 | nodes.flags << 32
        # Each page once: also what bounds the walk of a tree that bites its tail.
        _require((pages <= file.there) & (pages > 1), f"a page number in {name}")
        _require(len(np.unique(pages)) == len(pages), f"a page number in {name}")
    _require(total == int(record["branches"]) and len(pages) == int(record["leaves"]), f"page counts of {name}")
    runs.append(_run(pages, np.ones_like(pages)))
    found, kept, ends = _Counts(), [], []
    for begin in range(0, len(pages), _TOGETHER):
        values = _leaves(file, pages[begin : begin + _TOGETHER], runs, found, name, integer)
        starts = np.flatnonzero(values.nodes.slot == 0)
        stops = np.append(starts[1:], len(values.at)) - 1
        ends.append((_keys(values.nodes, starts), _keys(values.nodes, stops)))
        kept += [values] if name in (_FREE, _MAIN) else []
    _require(
        found.entries == int(record["entries"]) and found.overflows == int(record["overflows"]), f"counts of {name}"
    )
    first, last = (_join(keys) for keys in zip(*ends, strict=True))
    _check_branches(file, levels, first, last, integer, f"the order of {name}")
    return kept


def _leaves(
    file: _File, pages: np.ndarray, runs: list[np.ndarray], found: _Counts, name: str, integer: bool
) -> _Values:
    """Check some leaf pages and their values."""
    nodes = _nodes(file, pages, _LEAF, 1, f"a leaf page of {name}")
    ascending = _compare(file, _keys(nodes, slice(0, -1)), _keys(nodes, slice(1, None)), integer) < 0
    _require(ascending, f"the order of {name}")
    found.entries += len(nodes.slot)
    return _values(file, nodes, runs, found, name)


def _nodes(file: _File, pages: np.ndarray, kind: int, least: int, what: str) -> _Nodes:
    """Check the headers and nodes of some pages of one kind."""
    _require((pages > 1) & (pages <= file.there), what)
    start = pages * (file.page // 2)
    _require(file.words(pages * file.page) == pages.astype(np.uint64), what)
    _require(file.halves[start + 5] == kind, what)
    lower, upper = (file.halves[start + part].astype(np.int64) for part in (6, 7))
    _require((lower >= _HEADER) & (lower <= upper) & (upper <= file.page) & (lower % 2 == 0), what)
    count = (lower - _HEADER) // 2
    _require(count >= least, what)
    owner = np.repeat(np.arange(len(pages)), count)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    offset = file.halves[start[owner] + _HEADER // 2 + slot].astype(np.int64)
    _require((offset >= upper[owner]) & (offset <= file.page - _NODE) & (offset % 2 == 0), what)
    at = pages[owner] * file.page + offset
    low, high, flags, key_size = (file.halves[at // 2 + part].astype(np.int64) for part in range(4))
    _require((key_size <= _LONGEST_KEY) & ((key_size > 0) | (slot == 0) & (kind == _BRANCH)), what)
    nodes = _Nodes(owner, slot, at + _NODE, key_size, low, high, flags)
    # Nodes fill a page from its end without a gap, so each ends where the next begins.
    inside = np.zeros_like(low) if kind == _BRANCH else np.where(flags & _BIG, 8, low | high << 16)
    size = _NODE + key_size + inside + ((key_size + inside) & 1)
    order = np.argsort(owner * 65536 + offset)
    offset, size, owner = offset[order], size[order], owner[order]
    is_last = np.append(owner[1:] != owner[:-1], True)
    is_first = np.roll(is_last, 1)
    _require(np.where(is_last, file.page, np.roll(offset, -1)) == offset + size, what)
    _require(offset[is_first] == upper, what)
    return nodes


def _values(file: _File, leaves: _Nodes, runs: list[np.ndarray], found: _Counts, name: str) -> _Values:
    """Check where the values lie, those on overflow pages too."""
    _require(np.isin(leaves.flags, (0, _BIG, _TREE) if name == _MAIN else (0, _BIG)), f"a leaf page of {name}")
    size = leaves.low | leaves.high << 16
    at = leaves.key + leaves.key_size
    big = np.flatnonzero(leaves.flags & _BIG)
    if len(big):
        first = file.words(at[big]).astype(np.int64)
        what = f"an overflow page of {name}"
        _require((first > 1) & (first <= file.there), what)
        start = first * (file.page // 2)
        is_right = file.words(first * file.page).astype(np.int64) == first
        _require(is_right & (file.halves[start + 5] == _OVERFLOW), what)
        count = file.halves[start + 6].astype(np.int64) | file.halves[start + 7].astype(np.int64) << 16
        _require((count >= (_HEADER - 1 + size[big]) // file.page + 1) & (first + count - 1 <= file.there), what)
        found.overflows += int(count.sum())
        runs.append(_run(first, count))
        at[big] = first * file.page + _HEADER
    return _Values(leaves, at, size)


def _keys(nodes: _Nodes, at: slice | np.ndarray) -> _Keys:
    return nodes.key[at], nodes.key_size[at]


def _join(parts: Iterable[_Keys]) -> _Keys:
    positions, sizes = zip(*parts, strict=True)
    return np.concatenate(positions), np.concatenate(sizes)


def _check_branches(file: _File, levels: list[_Nodes], first: _Keys, last: _Keys, integer: bool, what: str) -> None:
    """Check that the leaves follow one another, and that the keys of branch pages lie between those of their children.

    `first` and `last` are the keys at the ends of every leaf page.
    """
    between = _compare(file, _at(last, slice(0, -1)), _at(first, slice(1, None)), integer) < 0
    _require(between, what)
    for nodes in reversed(levels):
        inner = np.flatnonzero(nodes.slot > 0)
        _require(_compare(file, _keys(nodes, inner), _at(first, inner), integer) <= 0, what)
        _require(_compare(file, _keys(nodes, inner), _at(last, inner - 1), integer) > 0, what)
        starts = np.flatnonzero(nodes.slot == 0)
        first, last = _at(first, starts), _at(last, np.append(starts[1:], len(nodes.slot)) - 1)


def _at(keys: _Keys, at: slice | np.ndarray) -> _Keys:
    return keys[0][at], keys[1][at]


def _compare(file: _File, one: _Keys, other: _Keys, integer: bool) -> np.ndarray:
    """-1, 0 or 1 for each pair of keys, compared as LMDB does: byte by byte, or as native integers."""
    (a, a_size), (b, b_size) = one, other
    if integer:
        _require((a_size == 8) & (b_size == 8), _FREE)
        a, b = file.words(a), file.words(b)
        return np.asarray((a > b).astype(np.int8) - (a < b).astype(np.int8))
    result: np.ndarray = np.sign(a_size - b_size).astype(np.int8)  # what decides where one begins with the other
    tied, done = np.arange(len(a)), 0
    while len(tied):
        left, right = _part(file, a[tied], a_size[tied], done), _part(file, b[tied], b_size[tied], done)
        differ = left != right
        result[tied[differ]] = np.where(left < right, -1, 1)[differ]
        done += 8
        tied = tied[~differ & (np.minimum(a_size[tied], b_size[tied]) > done)]
    return result


def _part(file: _File, key: np.ndarray, size: np.ndarray, done: int) -> np.ndarray:
    """Bytes `done` to `done` + 8 of each key as one number; zeros follow a key that is shorter."""
    at = key + done
    safe = np.minimum(at, len(file.data) - 8)
    over = np.minimum(at - safe, 7).astype(np.uint64) * np.uint64(8)
    left = np.clip(size - done, 0, 8).astype(np.uint64) * np.uint64(8)
    mask = np.where(left == 64, np.uint64(_NONE), ~(np.uint64(_NONE) >> np.minimum(left, np.uint64(63))))
    return np.asarray((file.words(safe, ">") << over) & mask)


def _free_pages(file: _File, values: _Values) -> np.ndarray:
    """Check the lists of free pages: a count, then page numbers in descending order."""
    pages = [np.empty(0, np.int64)]
    what = _FREE
    for at, size in zip(values.at.tolist(), values.size.tolist(), strict=True):
        _require(size >= 8 and size % 8 == 0, what)
        numbers = np.frombuffer(file.data[at : at + size].tobytes(), np.uint64)
        _require(numbers[0] < len(numbers), what)
        numbers = numbers[1 : 1 + int(numbers[0])]
        _require((numbers > 1) & (numbers <= file.last), what)
        pages.append(numbers.astype(np.int64))
        _require(np.diff(pages[-1]) < 0, what)
    found = np.concatenate(pages)
    return _run(found, np.ones_like(found))


def _trees(file: _File, main: _Values) -> Iterator[tuple[str, np.void]]:
    """Name and record of each named database."""
    for index in np.flatnonzero(main.nodes.flags == _TREE):
        _require(main.size[index] == DB.itemsize, "the list of tables")
        key, at = int(main.nodes.key[index]), int(main.at[index])
        name = file.data[key : key + int(main.nodes.key_size[index])].tobytes()
        yield f"table {ascii(name)[2:-1]}", np.frombuffer(file.data[at : at + DB.itemsize].tobytes(), DB)[0]

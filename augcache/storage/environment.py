"""One LMDB environment, made safe for people: forks, growth, and errors in plain words. Imports lmdb.

LMDB's own rules are the reason for this file: an environment may be opened once in a process, must not be used
across a fork, and may be resized only while no transaction of this process is open.

A child opens its own environment, and LMDB lets it only once the inherited one is closed. That waits for ever for a
thread that was inside LMDB at the fork, since the child has no such thread. So a fork waits until no thread is: it
takes all locks first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from augcache.errors import CorruptError, StoreError
from augcache.storage import checked
from augcache.storage.compact_copy import copy_compacted, write_same
from augcache.storage.lmdb_errors import explain, is_lock_trouble
from augcache.storage.open_lock import opening, replacing
from augcache.storage.page_check import check_pages, check_searches

Result = TypeVar("Result")
Transaction = lmdb.Transaction
Inode = tuple[int, int]

DATABASES = (b"meta", b"recipes", b"index", b"slabs", b"sources", b"failures")
FIRST_MAP_BYTES = 1 << 26  # 64 MiB of address space, not of disk
LARGEST_STEP = 1 << 36  # the map doubles, up to 64 GiB a step

# LMDB refuses a second open of one path in one process, so every Store of a path shares one environment.
# Weak: the last Store that goes lets go of it. It is closed under the lock, so that no other thread opens the path
# meanwhile; but a finalizer, which may run at any moment in any thread, does not wait for the lock.
_open: weakref.WeakValueDictionary[str, Environment] = weakref.WeakValueDictionary()
_open_lock = threading.RLock()
_dropped: list[lmdb.Environment] = []


class Environment:
    """A shared handle. Use `shared`, `read` and `write`."""

    def __init__(self, path: str, writable: bool, *, check: bool = False) -> None:
        self.path = path
        self.writable = writable
        self.is_dropped = False
        self._sound = b""  # state of the data file that is known to be sound
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._open(writable, check=check)

    def _open(self, writable: bool, *, check: bool = False) -> None:
        data = os.path.join(self.path, "data.mdb")
        for _ in range(100):
            checked.check_files(self.path)
            new = writable and not os.path.exists(data)
            found, self.inode = (b"", None) if new else (checked.state(data), _inode(data))
            is_known = not check and (new or found == self._sound or checked.is_stamped(self.path, found))
            try:
                self._env, self._databases = _open_lmdb(self.path, writable, self.inode, check=not is_known)
            except (_ReplacedError, lmdb.MapResizedError):
                continue  # another process made the map larger, or replaced the file, just then
            self.inode = self.inode or _inode(data)
            self._sound = found
            if not is_known:
                checked.stamp(self.path, found)
            return
        raise StoreError(f"{self.path}: changes faster than it can be opened; try again later")

    def check_pages(self) -> None:
        """Check every page of the present state; raises `CorruptError`."""
        if self._pid != os.getpid():
            self._reopen_after_fork()
        with self._lock:
            while True:
                try:
                    _check_pages(self._env, self.path, self.inode)
                    check_searches(self._env, self._databases, self.path)
                    return
                except _ReplacedError:
                    self.reopen()
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)
                except lmdb.Error as error:
                    raise explain(error, self.path) from error

    def read(self, work: Callable[[Transaction, dict[bytes, Any]], Result]) -> Result:
        """Run `work` in one read transaction; what it returns must not point into the map."""
        if self._pid != os.getpid():
            self._reopen_after_fork()
        with self._lock:
            try:
                with self._env.begin(buffers=True) as transaction:
                    return work(transaction, self._databases)
            except lmdb.MapResizedError:
                # Another process made the map larger; nothing has been read yet, so adopt it and read again.
                self._env.set_mapsize(0)
                with self._env.begin(buffers=True) as transaction:
                    return work(transaction, self._databases)
            except lmdb.Error as error:
                raise explain(error, self.path) from error

    def write(self, work: Callable[[Transaction, dict[bytes, Any]], Result]) -> Result:
        """Run `work` in one durable write transaction, growing the map and running it again where it is full."""
        if self._pid != os.getpid():
            self._reopen_after_fork()
        with self._lock:
            while True:
                try:
                    with self._env.begin(write=True, buffers=True) as transaction:
                        self._check_current()
                        result = work(transaction, self._databases)
                    self._stamp()
                    return result
                except _ReplacedError:
                    self.reopen()
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)
                except lmdb.MapFullError:
                    self._grow()
                except (lmdb.Error, OSError) as error:
                    raise explain(error, self.path) from error

    def _check_current(self) -> None:
        # Called inside a write transaction: `replace_compacted` holds one while it puts another file in place.
        if self.inode != _inode(os.path.join(self.path, "data.mdb")):
            raise _ReplacedError

    def reopen(self) -> None:
        """Close the file and open the one that is there now under its name."""
        with self._lock:
            if _inode(os.path.join(self.path, "data.mdb")) is None:
                raise StoreError(f"{self.path}: the store was removed while it was open; build it again")
            self._env.close()
            self._open(self.writable)

    @contextlib.contextmanager
    def _no_writer(self) -> Iterator[Transaction]:
        """Keep all writers out for as long as the block runs, by a transaction that writes nothing."""
        transaction = self._env.begin(write=True)
        try:
            yield transaction
        finally:
            transaction.abort()

    def _stamp(self) -> None:
        data = os.path.join(self.path, "data.mdb")
        if self.inode == _inode(data):
            self._sound = checked.state(data)
            checked.stamp(self.path, self._sound)

    def _grow(self) -> None:
        size = self._env.info()["map_size"]
        try:
            self._env.set_mapsize(size + min(size, LARGEST_STEP))
        except lmdb.Error as error:
            raise StoreError(
                f"{self.path}: the store's map cannot grow beyond {size >> 20} MiB ({error}); "
                "raise the address-space limit (ulimit -v) and run the same command again; finished entries are kept"
            ) from error

    def _reopen_after_fork(self) -> None:
        with self._lock:  # of several threads of the child, one
            if self._pid != os.getpid():
                self._env.close()
                self._open(self.writable)
                self._pid = os.getpid()

    def upgrade(self) -> None:
        """Reopen for writing."""
        with self._lock:
            if not self.writable:
                self._env.close()
                try:
                    self._open(True)
                except StoreError:
                    self._open(False)
                    raise
                self.writable = True

    def close(self) -> None:
        """Close it; for an environment that was not shared."""
        self._env.close()

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        self.is_dropped = True
        if hasattr(self, "_env") and not is_ending():  # else it could not be opened; or lmdb closes it
            _dropped.append(self._env)
            if _open_lock.acquire(blocking=False):
                try:
                    _close_dropped()
                finally:
                    _open_lock.release()

    def replace_compacted(self, aside: Path) -> None:
        """Put a copy without free pages in the place of the data file, by one rename.

        Parameters
        ----------
        aside : Path
            Empty folder on the same file system.

        Notes
        -----
        The write transaction keeps out every writer until the rename is done; one that waited for it finds another
        file than it had opened, and opens that. A process that has the old file open goes on reading it.
        """
        with self._lock:
            try:
                while not self._replace_compacted(aside, self.write(write_same)):
                    pass  # another process wrote in between, or another transaction is needed
            except lmdb.Error as error:
                raise explain(error, self.path) from error
            except _ReplacedError as error:
                raise StoreError(
                    f"{self.path}: another process replaced the store; run the same command again"
                ) from error
            self.reopen()

    def _replace_compacted(self, aside: Path, last: int) -> bool:
        with self._no_writer() as transaction:
            self._check_current()
            copy = copy_compacted(self._env, last, aside) if transaction.id() == last + 1 else None
            if copy is None:
                return False
            with replacing(self.path):
                os.replace(copy, os.path.join(self.path, "data.mdb"))
            _sync_folder(self.path)
        return True


class _Fork:
    """Keeps all threads out of LMDB while the process forks."""

    def __init__(self) -> None:
        self._held: list[Environment] = []

    def before(self) -> None:
        """Wait for the threads that are inside, and keep the others out."""
        _open_lock.acquire()
        self._held = list(_open.values())
        for environment in self._held:
            environment._lock.acquire()

    def after(self) -> None:
        """Let them in again, in the parent and in the child."""
        for environment in self._held:
            environment._lock.release()
        self._held = []
        _open_lock.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    _fork = _Fork()
    os.register_at_fork(before=_fork.before, after_in_parent=_fork.after, after_in_child=_fork.after)


class _ReplacedError(Exception):
    """The data file is not the one that this process has opened."""


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def shared(path: Path, *, writable: bool, check: bool = False) -> Environment:
    """Return this process's one environment for `path`, opened or upgraded as needed; one that is new, checked."""
    name = os.path.realpath(path)
    with _open_lock:
        environment = _open.get(name)
        if environment is None or environment.is_dropped:  # (it can be found until its finalizer is done)
            _close_dropped()
            environment = None
        if environment is not None and environment.inode != _inode(os.path.join(name, "data.mdb")):
            environment.reopen()  # the store was compacted, or deleted and made anew under the same name
        if environment is None:
            environment = Environment(name, writable, check=check)
            _open[name] = environment
        elif writable:
            environment.upgrade()
        return environment


def _close_dropped() -> None:
    while _dropped:
        _dropped.pop().close()


def _inode(data: str) -> Inode | None:
    """Identity of a data file."""
    try:
        status = os.stat(data)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_lmdb(
    path: str, writable: bool, inode: Inode | None, *, check: bool
) -> tuple[lmdb.Environment, dict[bytes, Any]]:
    new = inode is None
    try:
        with opening(path):
            env = _open_with_lock(path, writable, new)
    except lmdb.Error as error:
        raise explain(error, path) from error
    try:
        if not new and _inode(os.path.join(path, "data.mdb")) != inode:
            raise _ReplacedError
        if check:
            _check_pages(env, path, inode)
        databases = {name: env.open_db(name, create=new) for name in DATABASES}
        if check:
            check_searches(env, databases, path)
    except (_ReplacedError, lmdb.MapResizedError):
        env.close()
        raise
    except lmdb.NotFoundError as error:
        env.close()
        raise StoreError(f"{path}: an LMDB database, but not an augcache store; give another --store") from error
    except lmdb.Error as error:
        env.close()
        raise explain(error, path) from error
    except StoreError:
        env.close()
        raise
    return env, databases


def _check_pages(env: lmdb.Environment, path: str, inode: Inode | None) -> None:
    data = os.path.join(path, "data.mdb")
    for _ in range(10):
        before = checked.state(data)
        try:
            with env.begin():  # while it lasts, a writer leaves the pages of this state and of later ones alone
                check_pages(path)
                return
        except CorruptError as error:
            if _inode(data) != inode:  # the file was replaced in the middle of it
                raise _ReplacedError from None
            missing = (env.info()["last_pgno"] + 1) * env.stat()["psize"] - os.path.getsize(data)
            if checked.state(data) != before:
                continue  # the file grew in the middle of it
            if missing > 0:
                raise CorruptError(
                    f"{path}: data.mdb is cut short, by {missing} bytes; copy the store again, or delete it and rebuild"
                ) from error
            raise
    raise StoreError(f"{path}: changes faster than it can be checked; try again when the build is done")


def _open_with_lock(path: str, writable: bool, new: bool) -> lmdb.Environment:
    # map_size 0 adopts the size the store was left with, so an open never shrinks what a builder has grown.
    # readahead off: training reads at random, and read-ahead would fetch pages nobody asked for.
    # max_readers is room for the loader workers of many trainings on one machine.
    # max_spare_txns 0: a transaction kept for the next read holds its place in the lock file, which a forked child,
    # when it closes what it inherits, would give away while this process reads.
    # lib_version 0: LMDB 0.9, whose files every lmdb reads. lmdb has 1.0 as well, which no test of ours has seen.
    arguments: dict[str, Any] = {
        "lib_version": 0,
        "map_size": FIRST_MAP_BYTES if new else 0,
        "max_dbs": len(DATABASES),
        "max_spare_txns": 0,
        "readahead": False,
    }
    arguments |= {"max_readers": 1024, "create": new, "readonly": not writable, "mode": 0o644}
    try:
        env = lmdb.open(path, **arguments)
    except lmdb.Error as error:
        if writable or not is_lock_trouble(error):
            raise
        # A reader on a read-only mount, or on a file system without locks: nobody writes through it.
        return lmdb.open(path, lock=False, **arguments)
    if writable:
        env.reader_check()  # a reader that was killed would keep old pages from being used again for good
    return env

"""One LMDB environment, made safe for people: forks, growth, and errors in plain words. Imports lmdb, alone.

LMDB's own rules are the reason for this file: an environment may be opened once in a process, must not be used
across a fork, and may be resized only while no transaction of this process is open.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lmdb

from augcache import trust
from augcache.errors import CorruptError, StoreError
from augcache.meta import read_meta
from augcache.pages import check as check_pages

Result = TypeVar("Result")
Transaction = lmdb.Transaction

DATABASES = (b"meta", b"recipes", b"index", b"slabs", b"sources", b"failures")
FIRST_MAP_BYTES = 1 << 26  # 64 MiB of address space, not of disk
LARGEST_STEP = 1 << 36  # the map doubles, up to 64 GiB a step

# LMDB refuses a second open of one path in one process, so every Store of a path shares one environment.
# Weak: the last Store that goes closes it.
_open: weakref.WeakValueDictionary[str, Environment] = weakref.WeakValueDictionary()
_open_lock = threading.Lock()


class Environment:
    """A shared handle. Use `shared`, `read` and `write`."""

    def __init__(self, path: str, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._sound = b""  # state of the data file that is known to be sound
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._open(self.writable)
        self.inode = _inode(self.path)

    def _open(self, writable: bool) -> None:
        new = writable and not os.path.exists(os.path.join(self.path, "data.mdb"))
        trust.check_files(self.path)
        if not new:
            read_meta(os.path.join(self.path, "data.mdb"))
        found = b"" if new else trust.state(self.path)
        is_known = new or found == self._sound or trust.is_stamped(self.path, found)
        self._env, self._databases = _open_lmdb(self.path, writable, new, check=not is_known)
        self._note_sound(None if new else found, stamp=not is_known or new)

    def _note_sound(self, found: bytes | None = None, *, stamp: bool = True) -> None:
        self._sound = trust.state(self.path) if found is None else found
        if stamp:
            trust.stamp(self.path, self._sound)

    def check_pages(self) -> None:
        """Check every page of the present state; raises `CorruptError`."""
        if self._pid != os.getpid():
            self._reopen_after_fork()
        with self._lock:
            try:
                _check_pages(self._env, self.path)
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
                _check_pages(self._env, self.path)
            except lmdb.Error as error:
                raise _explain(error, self.path) from error

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
                raise _explain(error, self.path) from error

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
                    self._extend()
                    self._note_sound()
                    return result
                except _ReplacedError:
                    self.reopen()
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise _explain(error, self.path) from error

    def _check_current(self) -> None:
        # Called inside a write transaction: `replace_compacted` holds one while it puts another file in place.
        if self.inode != _inode(self.path):
            raise _ReplacedError

    def reopen(self) -> None:
        """Close the file and open the one that is there now under its name."""
        with self._lock:
            if _inode(self.path) is None:
                raise StoreError(f"{self.path}: the store was removed while it was open; build it again")
            self._env.close()
            self._start()

    def _extend(self) -> None:
        # LMDB need not write pages that a transaction both took and gave back; a file without them would look cut
        # short to `read_meta`.
        needed = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        data = os.path.join(self.path, "data.mdb")
        if os.path.getsize(data) < needed:
            os.truncate(data, needed)

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
        # The parent's lock may have been held at the fork, and its environment must not be used here.
        self._env.close()
        self._start()

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
        copy = aside / "data.mdb"
        with self._lock:
            try:
                with self._env.begin(write=True) as transaction:
                    self._check_current()
                    self._env.copy(str(aside), compact=True)
                    _set_transaction(copy, transaction.id() - 1)
                    os.replace(copy, os.path.join(self.path, "data.mdb"))
                    _sync_folder(self.path)
                    transaction.abort()
            except lmdb.Error as error:
                raise _explain(error, self.path) from error
            except _ReplacedError as error:
                raise StoreError(
                    f"{self.path}: another process replaced the store; run the same command again"
                ) from error
            self.reopen()


class _ReplacedError(Exception):
    """The data file is not the one that this process has opened."""


def _set_transaction(path: Path, number: int) -> None:
    """Give a compacted copy, which starts at transaction 1, the number of the last transaction of its original.

    The lock file stays, and with it the number that a reader takes its meta page by: page ``number & 1``. Both pages
    get the same tree, so whatever number a reader sees there, it reads this very state.
    """
    with open(path, "r+b") as file:
        file.seek(16 + 24)
        page = int.from_bytes(file.read(4), sys.byteorder)  # page size, in the record of the free list
        file.seek(page + 16)
        meta = file.read(136)
        for slot in (0, 1):
            own = number if number & 1 == slot else number - 1
            file.seek(slot * page + 16)
            file.write(meta[:128] + own.to_bytes(8, sys.byteorder))
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def shared(path: Path, *, writable: bool) -> Environment:
    """Return this process's one environment for `path`, opened or upgraded as needed."""
    name = os.path.realpath(path)
    with _open_lock:
        environment = _open.get(name)
        if environment is not None and environment.inode != _inode(name):
            environment.reopen()  # the store was compacted, or deleted and made anew under the same name
        if environment is None:
            environment = Environment(name, writable)
            _open[name] = environment
        elif writable:
            environment.upgrade()
        return environment


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(os.path.join(path, "data.mdb"))
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _open_lmdb(path: str, writable: bool, new: bool, *, check: bool) -> tuple[lmdb.Environment, dict[bytes, Any]]:
    try:
        env = _open_with_lock(path, writable, new)
    except lmdb.Error as error:
        raise _explain(error, path) from error
    try:
        if check:
            _check_pages(env, path)
        databases = {name: env.open_db(name, create=new) for name in DATABASES}
    except lmdb.NotFoundError as error:
        env.close()
        raise StoreError(f"{path}: an LMDB database, but not an augcache store; give another --store") from error
    except lmdb.Error as error:
        env.close()
        raise _explain(error, path) from error
    except StoreError:
        env.close()
        raise
    return env, databases


def _check_pages(env: lmdb.Environment, path: str) -> None:
    data = os.path.join(path, "data.mdb")
    for _ in range(100):
        with env.begin() as transaction:  # while it lasts, a writer leaves the pages of this state alone
            state = [meta for meta in read_meta(data) if int(meta["transaction"]) == transaction.id()]
            if state:  # else two commits came between the two lines
                check_pages(data, state[0])
                return
    raise StoreError(f"{path}: changes faster than it can be checked; try again when the build is done")


def _open_with_lock(path: str, writable: bool, new: bool) -> lmdb.Environment:
    # map_size 0 adopts the size the store was left with, so an open never shrinks what a builder has grown.
    # readahead off: training reads at random, and read-ahead would fetch pages nobody asked for.
    # max_readers is room for the loader workers of many trainings on one machine.
    arguments: dict[str, Any] = {
        "map_size": FIRST_MAP_BYTES if new else 0,
        "max_dbs": len(DATABASES),
        "readahead": False,
    }
    arguments |= {"max_readers": 1024, "create": new, "readonly": not writable, "mode": 0o644}
    try:
        return lmdb.open(path, **arguments)
    except lmdb.Error as error:
        if writable or not _is_lock_trouble(error):
            raise
        # A reader on a read-only mount, or on a file system without locks: nobody writes through it.
        return lmdb.open(path, lock=False, **arguments)


def _is_lock_trouble(error: lmdb.Error) -> bool:
    text = str(error)
    codes = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
    return isinstance(error, lmdb.ReadonlyError | lmdb.LockError) or any(os.strerror(code) in text for code in codes)


def _is_full(path: str, text: str) -> bool:
    # LMDB reports a write that the disk took only in part as an input/output error.
    if os.strerror(errno.EIO) not in text:
        return False
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 24  # less than one commit may take


def _explain(error: lmdb.Error, path: str) -> StoreError:
    text = str(error)
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.PanicError | lmdb.BadTxnError):
        return CorruptError(f"{path}: the store's pages are damaged ({text}); copy it again, or delete it and rebuild")
    if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError) or os.strerror(errno.EBADF) in text:
        # (a bad file descriptor is what LMDB makes of an empty file)
        return StoreError(f"{path}: not an augcache store ({text}); give another --store")
    if isinstance(error, lmdb.ReadersFullError):
        return StoreError(f"{path}: too many processes read this store at once; close some and try again")
    if os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text or _is_full(path, text):
        return StoreError(
            f"{path}: no space left on the disk; free some and run the same command again; finished entries are kept"
        )
    if os.strerror(errno.EACCES) in text or isinstance(error, lmdb.ReadonlyError) or os.strerror(errno.EROFS) in text:
        return StoreError(f"{path}: no permission to open or write it; check its owner, or give another --store")
    return StoreError(f"{path}: {text}")

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from stores import RECIPES, key, record

from augcache import Store
from augcache.errors import CorruptError, StoreError
from augcache.records import codec
from augcache.storage.manifest import Failure, Source
from augcache.storage.store import Batch

HERE = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # for processes that import this file


class StoreAgainstDict(RuleBasedStateMachine):
    """Whatever is done to a store, it answers as a dict would."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder / "s.augcache", "w")
        self.model: dict[tuple[int, int], int] = {}
        self.manifest: dict[str, Source] = {}
        self.failed: dict[tuple[int, str], str] = {}

    @rule(which=st.integers(0, 1), numbers=st.lists(st.integers(0, 40), max_size=6), shift=st.integers(0, 3))
    def commit(self, which, numbers, shift):
        records = {key(n): codec.encode(record(n + shift)) for n in numbers}
        self.store.commit(RECIPES[which], Batch(records=records))
        for n in numbers:
            self.model.setdefault((which, n), n + shift)  # the first one stays

    @rule(which=st.integers(0, 1), number=st.integers(0, 40), other=st.integers(0, 99))
    def replace(self, which, number, other):
        batch = Batch(records={key(number): codec.encode(record(other))})
        self.store.commit(RECIPES[which], batch, replace=True)
        self.model[which, number] = other

    @rule(
        which=st.integers(0, 1),
        name=st.text(min_size=1, max_size=300).filter(lambda t: "\0" not in t),
        n=st.integers(0, 40),
    )
    def source(self, which, name, n):
        name = name.encode(errors="replace").decode()
        row = Source(name, key(n), size=n, mtime_ns=n, label="é")
        self.store.commit(RECIPES[which], Batch(sources=[row]))
        self.manifest[name] = row
        self.failed.pop((which, name), None)

    @rule(which=st.integers(0, 1), name=st.sampled_from("abc"), reason=st.text(max_size=9))
    def failure(self, which, name, reason):
        self.store.commit(RECIPES[which], Batch(failures=[Failure(name, reason)]))
        self.failed[which, name] = reason

    @rule()
    def reopen(self):
        self.store = None
        self.store = Store(self.folder / "s.augcache", "w")

    @invariant()
    def agrees(self):
        assert len(self.store) == len(self.model)
        for which, recipe in enumerate(RECIPES):
            keys = [key(n) for w, n in self.model if w == which]
            assert list(self.store.keys(recipe)) == sorted(keys)
            assert self.store.count(recipe) == len(keys)
        for (which, n), value in self.model.items():
            assert np.array_equal(self.store.get(RECIPES[which], key(n))["x"], record(value)["x"])
        assert self.store.get(RECIPES[0], key(99)) is None
        assert list(self.store.sources()) == sorted(self.manifest.values(), key=lambda row: row.row_key())
        assert {(f.name, f.reason) for f in self.store.failures()} == {(n, r) for (_, n), r in self.failed.items()}
        assert self.store.info().failures == len(self.failed)

    def teardown(self):
        self.store = None
        shutil.rmtree(self.folder)


StoreAgainstDict.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestStoreAgainstDict = StoreAgainstDict.TestCase


def filled(path, count=300) -> Store:
    store = Store(path, "w")
    store.commit(RECIPES[0], Batch(records={key(n): codec.encode(record(n)) for n in range(count)}))
    return store


def test_the_map_grows_by_itself_under_an_open_reader(tmp_path):
    """A store outgrows its first map while another process keeps reading, and nobody notices."""
    path = tmp_path / "s.augcache"
    store = filled(path, 10)
    code = f"""
import sys; sys.path[:0] = {HERE!r}
from test_store import *
store = Store({str(path)!r})
assert store.get(RECIPES[0], key(7)) is not None
print("open", flush=True)
sys.stdin.readline()
assert np.array_equal(store.get(RECIPES[0], key(1007))["x"][:2], [0, 0])
assert store.get(RECIPES[0], key(7)) is not None
print("read", len(store))
"""
    reader = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    assert reader.stdout.readline() == "open\n"
    large = codec.encode({"x": np.zeros(1 << 20, np.uint8)}, level=0)
    for start in range(1000, 1100, 20):
        store.commit(RECIPES[0], Batch(records={key(n): large for n in range(start, start + 20)}))
    out, _ = reader.communicate("go\n", timeout=60)
    assert out == "read 110\n"


def test_readers_in_threads_agree_while_a_writer_grows_the_map(tmp_path):
    """Threads read correct records while the same process commits and the map is resized."""
    store, errors = filled(tmp_path / "s.augcache"), []
    stop = threading.Event()

    def read():
        try:
            while not stop.is_set():
                for n in range(0, 300, 17):
                    assert np.array_equal(store.get(RECIPES[0], key(n))["x"], record(n)["x"])
        except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    large = codec.encode({"x": np.zeros(1 << 22, np.uint8)}, level=0)
    for n in range(1000, 1040):
        store.commit(RECIPES[0], Batch(records={key(n): large}))
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors


def _read_some(store, numbers):
    return [int(store.get(RECIPES[0], key(n))["x"].sum()) for n in numbers]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_store_works_in_worker_processes(tmp_path, method):
    """A store that is open here reads right in forked and spawned children, and still here afterwards."""
    store, numbers = filled(tmp_path / "s.augcache"), [3, 77, 299]
    expected = _read_some(store, numbers)
    with get_context(method).Pool(2) as pool:
        assert pool.starmap(_read_some, [(store, numbers)] * 4) == [expected] * 4
    assert _read_some(store, numbers) == expected


def test_workers_may_be_forked_while_threads_read(tmp_path):
    """Fifty children forked while threads read and a thread writes all read, write and end; so do the threads."""
    path = tmp_path / "s.augcache"
    filled(path)
    code = f"""
import sys; sys.path[:0] = {HERE!r}
from test_store import *
store, errors, stop = Store({str(path)!r}, "w"), [], threading.Event()
def all_right():
    return all(np.array_equal(store.get(RECIPES[0], key(n))["x"], record(n)["x"]) for n in range(0, 300, 3))
def read():
    while not stop.is_set():
        if not all_right(): errors.append("wrong")
def write():
    for n in range(10**6, 10**9):
        if stop.is_set(): return
        store.put(RECIPES[0], key(n), record(n))
threads = [threading.Thread(target=work) for work in (read, read, read, write)]
for thread in threads: thread.start()
for number in range(50):
    child = os.fork()
    if child == 0:
        good = all_right()
        if number % 10 == 0: store.put(RECIPES[0], key(10**9 + number), record(1))
        os._exit(not good)
    errors += [status] if (status := os.waitpid(child, 0)[1]) else []
stop.set()
for thread in threads: thread.join()
print(errors, all_right(), len(store.has(RECIPES[0].digest, [key(10**9 + number) for number in range(0, 50, 10)])))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "[] True 5\n", ended.stderr


def test_threads_open_and_drop_a_store(tmp_path):
    """Many threads that each open the store, read and let it go never meet a store that is being closed."""
    path, errors = tmp_path / "s.augcache", []
    filled(path)

    def work():
        try:
            for _ in range(500):
                assert Store(path).get(RECIPES[0], key(3)) is not None
        except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_pickling_takes_only_the_path(tmp_path):
    """A dataset that holds a store stays small when it is sent to workers."""
    store = filled(tmp_path / "s.augcache")
    assert len(pickle.dumps(store)) < 400
    assert len(pickle.loads(pickle.dumps(store))) == 300


def test_kill_nine_loses_nothing_that_was_committed(tmp_path):
    """A writer killed at any moment leaves a store with every committed record, and it can be written again."""
    path = tmp_path / "s.augcache"
    code = f"""
import sys; sys.path[:0] = {HERE!r}
from test_store import *
store = Store({str(path)!r}, "w")
start = len(store)
for n in range(start, start + 100000):
    store.commit(RECIPES[0], Batch(records={{key(n): codec.encode(record(n))}}))
    print(n, flush=True)
"""
    committed = -1
    for delay in (0.05, 0.15, 0.3):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=-1, text=True)
        writer.stdout.readline()
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        lines = [int(line) for line in writer.communicate()[0].split()]
        committed = max([committed, *lines])
        store = Store(path)
        assert len(store) >= committed + 1
        for n in range(committed + 1):
            assert np.array_equal(store.get(RECIPES[0], key(n))["x"], record(n)["x"])
        del store
    filled(path, 5)


def test_damage_is_an_error_and_never_another_record(tmp_path):
    """Flipped bytes in the records give CorruptError or the right record, nothing else."""
    path = tmp_path / "s.augcache"
    expected = {n: record(n) for n in range(300)}
    store = filled(path)
    del store
    data = path / "data.mdb"
    raw = data.read_bytes()
    first = raw.index(codec.MAGIC)  # damage where records lie; LMDB's own pages are another matter
    rng = np.random.default_rng(0)
    noticed, messages = 0, set()
    for _ in range(40):
        damaged = bytearray(raw)
        position = int(rng.integers(first, first + 20000))
        damaged[position] ^= int(rng.integers(1, 256))
        data.unlink()
        data.write_bytes(damaged)
        store = Store(path)
        for n, want in expected.items():
            try:
                assert np.array_equal(store.get(RECIPES[0], key(n))["x"], want["x"])
            except CorruptError as error:
                noticed += 1
                messages.add(str(error))
        del store
    assert noticed >= 30
    assert all(str(path) in message for message in messages)


def test_a_file_cut_short_is_refused(tmp_path):
    """A truncated copy is a clear error, not a crash of the process."""
    path = tmp_path / "s.augcache"
    del (store := filled(path)).mode, store
    os.truncate(path / "data.mdb", 20480)
    with pytest.raises(CorruptError, match="cut short"):
        Store(path)


def test_a_newer_format_is_refused_by_name(tmp_path):
    """A store of a later release says so, and is left alone."""
    store = filled(tmp_path / "s.augcache")
    mark(store, b"3")
    with pytest.raises(StoreError, match=r"format 3, this augcache reads format 1 and 2; install a newer"):
        Store(tmp_path / "s.augcache")


def test_a_store_of_format_1_is_read_and_becomes_one_of_2_when_it_is_written(tmp_path):
    """Records stay; once there may be one that an older augcache cannot read, it is told to be updated."""
    path = tmp_path / "s.augcache"
    old = list(filled(path).keys(RECIPES[0]))
    mark(Store(path, "w"), b"1")
    assert Store(path).get(RECIPES[0], old[0]) is not None
    assert format_of(path) == b"1"
    Store(path, "w").put(RECIPES[0], key(1 << 40), {"x": np.zeros(4096, np.uint8)})
    assert format_of(path) == b"2"
    assert set(old) < set(Store(path).keys(RECIPES[0]))


def mark(store, number):
    store._env.write(lambda transaction, databases: transaction.put(b"format", number, db=databases[b"meta"]))


def format_of(path):
    return Store(path).read(lambda transaction, databases: bytes(transaction.get(b"format", db=databases[b"meta"])))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("hello"), "a file, not a store"),
        (lambda path: None, "no store there"),
        (lambda path: path.mkdir(), "not an augcache store"),
        (lambda path: (path.mkdir(), (path / "data.mdb").write_bytes(b"hello" * 2000)), "not an augcache store"),
        (lambda path: (path.mkdir(), (path / "data.mdb").write_bytes(b"")), "not an augcache store"),
        (lambda path: __import__("lmdb").open(str(path), max_dbs=2).close(), "not an augcache store"),
    ],
    ids=["file", "missing", "folder", "garbage", "empty", "lmdb"],
)
def test_what_is_no_store_is_one_clear_line(tmp_path, make, message):
    """Opening something else says what it is, where, and leaves it as it was."""
    path = tmp_path / "thing"
    make(path)
    before = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else path.exists()
    with pytest.raises(StoreError, match=message) as caught:
        Store(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    after = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else path.exists()
    assert set(after) - set(before) <= {"lock.mdb"} if path.is_dir() else after == before


@pytest.mark.parametrize("data", [b"", b"hello" * 2000], ids=["empty", "garbage"])
def test_a_data_file_of_something_else_is_not_written_to(tmp_path, data):
    """Opened for writing, a file that is no database stays as it is, an empty one too."""
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(StoreError, match="not an augcache store"):
        Store(tmp_path, "w")
    assert (tmp_path / "data.mdb").read_bytes() == data


def test_a_store_is_one_file_format_whatever_lmdb_makes_by_itself(tmp_path):
    """Where the environment asks lmdb for LMDB 1.0, a store is written that all can read."""
    code = f"import sys; sys.path += {HERE}; import test_store; test_store.filled({str(tmp_path / 's')!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "LMDB_DEFAULT_LIB_VERSION": "1"})
    assert len(Store(tmp_path / "s")) > 0


def test_a_folder_with_other_things_is_never_written_to(tmp_path):
    """--store pointing at a folder of images must not fill it."""
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match="other things in it"):
        Store(tmp_path, "w")
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]


def test_reading_store_cannot_be_written(tmp_path):
    """A store opened for reading refuses to write, and says how to open it."""
    filled(tmp_path / "s.augcache")
    with pytest.raises(StoreError, match="opened for reading"):
        Store(tmp_path / "s.augcache").put(RECIPES[0], key(1), record(1))


def test_a_read_only_folder_can_be_read(tmp_path):
    """A store on a read-only mount, or owned by somebody else, serves look-ups."""
    path = tmp_path / "s.augcache"
    filled(path)
    for entry in path.iterdir():
        entry.chmod(0o444)
    path.chmod(0o555)
    code = f"""
import os, sys; sys.path[:0] = {HERE!r}
from test_store import *
if os.getuid() == 0: os.setuid(65534)
store = Store({str(path)!r})
print(len(store), store.get(RECIPES[0], key(9))["x"][0])
try: Store({str(path)!r}, "w")
except StoreError as error: print(error)
"""
    for parent in path.parents:
        if parent.stat().st_uid == os.getuid() and parent.stat().st_mode & 0o005 != 0o005 and "pytest" in str(parent):
            parent.chmod(0o755)
    out = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, check=False)
    path.chmod(0o755)
    assert out.stdout.splitlines()[0] == "300 9", out.stderr
    assert "permission" in out.stdout.splitlines()[1]


def test_a_deleted_and_rebuilt_store_is_the_new_one(tmp_path):
    """In a notebook: build, delete the folder, build again; reads see the new store."""
    path = tmp_path / "s.augcache"
    old = filled(path, 10)
    shutil.rmtree(path)
    assert len(filled(path, 3)) == 3
    assert len(Store(path)) == 3
    del old


def test_two_writers_at_once_is_one_clear_line(tmp_path):
    """A second build into a store that is being written says so instead of waiting without a word."""
    store = filled(tmp_path / "s.augcache")
    second = Store(tmp_path / "s.augcache", "w")
    with store.exclusive(), pytest.raises(StoreError, match="another augcache command is writing"), second.exclusive():
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    """Where nothing can be locked, a build says what to do, and a reader still reads."""
    import errno

    import lmdb

    from augcache.storage import environment

    store = filled(tmp_path / "s.augcache")
    monkeypatch.setattr(
        "filelock.FileLock.acquire", lambda self: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks"))
    )
    with pytest.raises(StoreError, match=r"file system has no locks.*build on a local disk"), store.exclusive():
        pass
    del store
    real = lmdb.open

    def without_locks(*args, lock=True, **options):
        if lock:
            raise lmdb.Error(f"x: {os.strerror(errno.ENOLCK)}")
        return real(*args, lock=False, **options)

    monkeypatch.setattr(environment.lmdb, "open", without_locks)
    assert np.array_equal(Store(tmp_path / "s.augcache").get(RECIPES[0], key(9))["x"], record(9)["x"])


def test_many_opens_do_not_leak(tmp_path):
    """Opening and dropping a store a thousand times keeps the number of file descriptors."""
    filled(tmp_path / "s.augcache")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(1000):
        Store(tmp_path / "s.augcache").get(RECIPES[0], key(1))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_info_is_plain_data(tmp_path):
    """What info returns can be printed as JSON, and counts right."""
    import dataclasses

    info = filled(tmp_path / "s.augcache").info()
    text = json.loads(json.dumps(dataclasses.asdict(info)))
    assert (text["entries"], text["recipes"][0]["entries"], text["recipes"][0]["transform"]) == (300, 300, "toy:toy")
    assert text["bytes"] == (tmp_path / "s.augcache" / "data.mdb").stat().st_size

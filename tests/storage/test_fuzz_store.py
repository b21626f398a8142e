"""A damaged or hostile store file: right records or a clear error, and never a signal.

Run as a script for a longer campaign: ``PYTHONPATH=tests python tests/storage/test_fuzz_store.py CASES SEED ENTRIES``.
"""

import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest
from stores import RECIPES, key

from augcache import Recipe, Store
from augcache.errors import AugcacheError, CorruptError, StoreError
from augcache.records import codec
from augcache.storage import checked
from augcache.storage.manifest import Failure, Source
from augcache.storage.store import Batch
from augcache.upkeep.merge import merge
from augcache.upkeep.prune import compact, prune
from augcache.upkeep.verify import verify

PAGE = 4096
SECONDS = 60  # a case that takes longer hangs
KINDS = ["bits"] * 2 + ["header"] * 2 + ["node"] * 3 + ["swap", "copy", "noise", "zero", "cut", "meta", "word"]
RIGHT, REFUSED, WRONG, BUG = 0, 1, 2, 3  # exit status of a case


def record(number: int) -> dict[str, np.ndarray]:
    size = 60_000 if number % 100 == 99 else 20 + number % 300
    return {"x": np.random.default_rng(number).integers(0, 256, size, np.uint8)}


def make(path: Path, entries: int) -> dict[tuple[bytes, bytes], bytes]:
    """A store with all kinds of pages: trees of three levels, overflow pages, free pages, two recipes."""
    store, expected = Store(path, "w"), {}
    for index, recipe in enumerate(RECIPES):
        for start in range(0, entries, 100):
            numbers = range(start, start + 100)
            rows = [Source(f"some/folder/{n:07d}.jpg", key(n), n, n, label="class") for n in numbers]
            records = {key(n): codec.encode(record(n + index)) for n in numbers}
            store.commit(recipe, Batch(records, rows, [Failure(f"bad{start}", "why" * 20)]))
            expected |= {(recipe.digest, name): codec.decode(data)["x"].tobytes() for name, data in records.items()}
    other = Recipe("toy:toy", shift=1)
    store.commit(other, Batch({key(n): codec.encode(record(n)) for n in range(300)}))
    prune(path, other.digest.hex())
    return expected


def damage(raw: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One random damage: its name, and the damaged file."""
    data = bytearray(raw)
    pages = len(raw) // PAGE
    kind = str(rng.choice(KINDS))
    page = int(rng.choice(trees(raw))) * PAGE
    if kind == "bits":
        for position in rng.integers(0, len(raw), rng.integers(1, 9)):
            data[position] ^= 1 << int(rng.integers(8))
    elif kind == "header":
        data[page + int(rng.integers(16))] ^= 1 << int(rng.integers(8))
    elif kind == "node":  # a field of a node's head, or a node's place
        lower = struct.unpack_from("<H", raw, page + 12)[0]
        slot = page + 16 + 2 * int(rng.integers(max(1, (lower - 16) // 2)))
        node = page + struct.unpack_from("<H", raw, slot)[0]
        at = slot if rng.random() < 0.3 else min(node, len(raw) - 16) + 2 * int(rng.integers(8))
        value = int(rng.choice([0, 1, 2, 4, 8, 0xFFFF, 0x8000, rng.integers(65536), rng.integers(pages)]))
        struct.pack_into("<H", data, at, value)
    elif kind == "swap":
        other = int(rng.integers(pages)) * PAGE
        data[page : page + PAGE], data[other : other + PAGE] = raw[other : other + PAGE], raw[page : page + PAGE]
    elif kind == "copy":
        data[page : page + PAGE] = raw[(other := int(rng.choice(trees(raw))) * PAGE) : other + PAGE]
        data[page : page + 8] = struct.pack("<Q", page // PAGE)  # with the right number
    elif kind == "noise":
        data[page : page + PAGE] = rng.bytes(PAGE)
    elif kind == "zero":
        data[page : page + PAGE] = bytes(PAGE)
    elif kind == "cut":
        del data[int(rng.integers(len(raw))) :]
    elif kind == "meta":
        at = PAGE * int(rng.integers(2)) + 16 + int(rng.integers(136))
        data[at] ^= 1 << int(rng.integers(8))
    else:  # a page number or a count
        struct.pack_into("<Q", data, page + 8 * int(rng.integers(PAGE // 8)), int(rng.integers(pages)))
    return kind, bytes(data)


def trees(raw: bytes) -> list[int]:
    """Numbers of the pages that are, or once were, meta, branch and leaf pages."""
    heads = np.frombuffer(raw, np.uint8).reshape(-1, PAGE)[:, :16].copy().view("<u8,<u2,<u2,<u2,<u2").ravel()
    return np.flatnonzero((heads["f0"] == np.arange(len(heads))) & np.isin(heads["f2"], (1, 2, 8))).tolist()


def use(path: Path, expected: dict[tuple[bytes, bytes], bytes], *, write: bool) -> int:
    """Do with a store all that one can do; returns the exit status."""
    status = RIGHT
    try:
        store = Store(path)
    except AugcacheError:
        return REFUSED
    steps = [store.info, store.recipes, lambda: list(store.sources()), lambda: list(store.failures())]
    steps += [lambda: [list(store.keys(recipe)) for recipe in RECIPES], lambda: verify(store)]
    for (digest, name), value in expected.items():
        try:
            found = store.get_bytes(digest, name)
            if found is not None and codec.decode(found)["x"].tobytes() != value:
                return WRONG
        except AugcacheError:
            status = REFUSED
    if write:
        fresh = Batch({key(n): codec.encode(record(n)) for n in range(10**6, 10**6 + 50)})
        steps.append(lambda: merge(path.with_name("merged.augcache"), [path]))
        steps.append(lambda: Store(path, "w").commit(RECIPES[0], fresh))
        steps.append(lambda: prune(path, RECIPES[1].digest.hex()))
        steps.append(lambda: compact(path))
    for step in steps:
        try:
            step()
        except AugcacheError as error:
            status = max(status, BUG if "\n" in str(error) else REFUSED)
    return status


def run_case(raw: bytes, lock: bytes, expected: dict, folder: Path, *, write: bool) -> int:
    """Use a damaged file in a process of its own; returns its wait status."""
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / "s.augcache"
    path.mkdir(parents=True)
    (path / "data.mdb").write_bytes(raw)
    (path / "lock.mdb").write_bytes(lock)
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        try:
            status = use(path, expected, write=write)
        except BaseException:  # noqa: BLE001  # whatever it is, the parent must know
            traceback.print_exc()
            status = BUG
        os._exit(status)
    return os.waitpid(child, 0)[1]


def campaign(cases: int, seed: int, entries: int, keep: Path | None = None) -> dict[tuple[str, str], int]:
    """Count the outcomes of many cases by kind of damage; every other case also writes."""
    counts: dict[tuple[str, str], int] = {}
    names = {RIGHT: "right", REFUSED: "refused", WRONG: "WRONG", BUG: "BUG"}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        expected = make(Path(folder) / "base.augcache", entries)
        raw = (Path(folder) / "base.augcache/data.mdb").read_bytes()
        for number in range(cases):
            rng = np.random.default_rng((seed, number))
            kind, damaged = damage(raw, rng)
            lock = rng.bytes(int(rng.integers(100_000))) if number % 3 == 0 else b""
            status = run_case(damaged, lock, expected, Path(folder) / "case", write=number % 2 == 0)
            outcome = f"SIGNAL {status & 127}" if status & 127 else names[status >> 8]
            counts[kind, outcome] = counts.get((kind, outcome), 0) + 1
            if keep is not None and outcome not in ("right", "refused"):
                print(number, kind, outcome, flush=True)
                (keep / f"{number}-{kind}.mdb").write_bytes(damaged)
    return counts


def test_a_damaged_file_gives_right_records_or_an_error():
    """Flipped bits, foreign pages, false sizes and page numbers, cut files: no crash, no hang, no wrong record."""
    counts = campaign(60, 1, 600)
    assert {outcome for _, outcome in counts} <= {"right", "refused"}, counts
    assert sum(count for (_, outcome), count in counts.items() if outcome == "refused") >= 30


@pytest.mark.parametrize("name", ["lock.mdb", "writer.lock", "data.mdb"])
def test_links_and_pipes_in_a_store_are_not_opened(tmp_path, name):
    """A store from a stranger cannot make a reader write to another file, or wait for ever."""
    make(tmp_path / "s.augcache", 100)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "s.augcache" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path) if name == "data.mdb" else path.symlink_to(victim)
    with pytest.raises(StoreError, match="not a plain file"):
        Store(tmp_path / "s.augcache")
    assert victim.read_text() == "precious"


def test_a_stamp_is_not_believed_for_another_file(tmp_path):
    """What is known of a file holds for that very file and state: a copy, and a changed file, are checked again."""
    path = tmp_path / "s.augcache"
    make(path, 100)
    raw = (path / "data.mdb").read_bytes()
    damaged = bytearray(raw)
    for page in trees(raw)[2:]:
        damaged[page * PAGE + 12] ^= 0x80
    status = (path / "data.mdb").stat()
    with open(path / "data.mdb", "r+b") as file:
        file.write(damaged)
    os.utime(path / "data.mdb", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(CorruptError, match="damaged"):
        Store(path)
    copy = tmp_path / "copy.augcache"
    make(path2 := tmp_path / "t.augcache", 100)
    Store(path2)
    shutil.copytree(path2, copy, symlinks=True)
    (copy / "data.mdb").write_bytes(damaged)
    with pytest.raises(CorruptError, match="damaged"):
        Store(copy)


def damaged_in_place(path: Path, change) -> None:
    """Change a data file under a stamp that still fits, as a failing disk does."""
    data = path / "data.mdb"
    raw = bytearray(data.read_bytes())
    change(raw)
    data.write_bytes(raw)
    checked.stamp(str(path), checked.state(str(data)))


def test_a_damaged_key_is_an_error_and_no_miss(tmp_path):
    """Any bit of any key of the index flipped in place: its record, and all others, are right or a clear error."""
    make(tmp_path / "base.augcache", 200)
    raw = (tmp_path / "base.augcache/data.mdb").read_bytes()
    wanted = [n for n in range(200) if n % 100 != 99]
    places = {n: [at for at in finds(raw, RECIPES[0].digest + key(n)) if is_live(raw, at)] for n in wanted}
    rng, errors = np.random.default_rng(0), 0
    for case in range(60):
        at = int(rng.choice(places[int(rng.choice(wanted))])) + int(rng.integers(32))
        path = tmp_path / f"{case}.augcache"
        shutil.copytree(tmp_path / "base.augcache", path)
        damaged_in_place(path, lambda data, at=at: data.__setitem__(at, data[at] ^ 1 << int(rng.integers(8))))
        store = Store(path)
        for n in wanted:
            try:
                assert np.array_equal(store.get(RECIPES[0], key(n))["x"], record(n)["x"])
            except CorruptError:
                errors += 1
        shutil.rmtree(path)
    assert errors >= 50


def finds(raw: bytes, what: bytes) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(what), raw)]


def is_live(raw: bytes, at: int) -> bool:
    """Whether a position is on a leaf or branch page; old versions of pages are harmless to change."""
    return struct.unpack_from("<H", raw, at // PAGE * PAGE + 10)[0] in (1, 2)


def test_a_miss_in_a_sound_store_is_a_miss(tmp_path):
    """Keys before, between and after all others, of known recipes and others, are None and no error."""
    make(path := tmp_path / "s.augcache", 200)
    store = Store(path)
    for recipe in (*RECIPES, Recipe("toy:toy", shift=2)):
        for number in (200, 10**6, 2**127, 2**128 - 1):
            assert store.get(recipe, key(number)) is None


def test_verify_looks_at_pages_that_were_sound_once(tmp_path):
    """Under a stamp that still fits, verify says that the pages are damaged, and its process lives."""
    make(base := tmp_path / "base.augcache", 600)
    raw, rng, said = (base / "data.mdb").read_bytes(), np.random.default_rng(3), 0
    for case in range(30):
        path = tmp_path / f"{case}.augcache"
        shutil.copytree(base, path)
        kind, changed = damage(raw, rng)
        damaged_in_place(path, lambda data, changed=changed: data.__setitem__(slice(None), changed))
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)
            try:
                status = 1 if verify(path).problems else 0
            except CorruptError as error:
                status = 3 if "\n" in str(error) else 1
            except StoreError:
                status = 1
            except BaseException:  # noqa: BLE001  # whatever it is, the parent must know
                traceback.print_exc()
                status = 3
            os._exit(status)
        status = os.waitpid(child, 0)[1]
        assert status in (0, 1 << 8), (case, kind, status)
        said += status >> 8
        shutil.rmtree(path)
    assert said >= 15


def nodes(raw: bytes, kind: int) -> list[tuple[int, int]]:
    """Page and node, as places in the file, of the leaf pages (2) or branch pages (1) that are or once were in use."""
    found = []
    for page in trees(raw)[2:]:
        start = page * PAGE
        if struct.unpack_from("<H", raw, start + 10)[0] == kind:
            count = (struct.unpack_from("<H", raw, start + 12)[0] - 16) // 2
            found += [(start, start + at) for at in struct.unpack_from(f"<{count}H", raw, start + 16)]
    return found


def test_nodes_that_overlap_do_no_harm(tmp_path):
    """Values that reach over their neighbours, each inside its page: right records or an error, for writers too."""
    expected = make(tmp_path / "base.augcache", 600)
    raw = (tmp_path / "base.augcache/data.mdb").read_bytes()
    outcomes = []
    for case in range(16):
        rng, changed = np.random.default_rng((5, case)), bytearray(raw)
        share = rng.choice([0.01, 0.1, 1.0])
        for page, node in nodes(raw, 2):
            low, _, flags, key_size = struct.unpack_from("<4H", raw, node)
            room = page + PAGE - node - 8 - key_size
            if flags == 0 and rng.random() < share and room > low:
                struct.pack_into("<H", changed, node, int(rng.integers(low, room)))
        outcomes.append(run_case(bytes(changed), b"", expected, tmp_path / "case", write=True))
    assert set(outcomes) <= {RIGHT << 8, REFUSED << 8}


def test_a_wrong_key_of_an_inner_page_is_refused(tmp_path):
    """A key that only leads the search, and leads it astray, hides an entry: the file is refused before it is read."""
    make(tmp_path / "base.augcache", 600)
    raw = (tmp_path / "base.augcache/data.mdb").read_bytes()
    wrong = [node for _, node in nodes(raw, 1) if raw[node + 8 : node + 24] == RECIPES[0].digest]
    refused = 0
    for case, node in enumerate(wrong):
        path = tmp_path / f"{case}.augcache"
        path.mkdir()
        changed = bytearray(raw)
        changed[node + 8 + struct.unpack_from("<H", raw, node + 6)[0] - 1] ^= 1
        (path / "data.mdb").write_bytes(changed)
        try:
            store = Store(path)
        except CorruptError:
            refused += 1
            continue
        assert all(store.get(RECIPES[0], key(n)) is not None for n in range(600))  # a page that is in use no more
    assert refused >= 5


def test_a_sound_file_is_checked_once(tmp_path, monkeypatch):
    """Opening a store again, a store that was just built, or one in a forked worker costs no second check."""
    make(tmp_path / "s.augcache", 100)
    shutil.copytree(tmp_path / "s.augcache", tmp_path / "copy.augcache")
    checks = []
    from augcache.storage import environment

    check = environment.check_pages
    monkeypatch.setattr(environment, "check_pages", lambda path: (checks.append(path), check(path)))
    for _ in range(3):
        assert len(Store(tmp_path / "s.augcache")) == 200
    assert not checks
    for _ in range(3):
        assert len(Store(tmp_path / "copy.augcache")) == 200
    assert len(checks) == 1


if __name__ == "__main__":
    kept = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for (kind, outcome), count in sorted(campaign(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), kept).items()):
        print(f"{kind:8} {outcome:10} {count}")

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from conftest import sealed, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import RECIPES, key, record

from augcache import Recipe, Store, build, resize
from augcache.errors import CorruptError, StoreError
from augcache.records import codec
from augcache.sources import open_source
from augcache.storage.manifest import Failure, Source
from augcache.storage.store import Batch
from augcache.upkeep.merge import merge
from augcache.upkeep.prune import compact, prune
from augcache.upkeep.verify import verify

HERE = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # for processes that import this file

ELSEWHERE = Recipe.from_json('{"transform": "nowhere.to.be:found", "version": 3, "params": {"a": 1}}')
PREAMBLE = f"import sys; sys.path[:0] = {HERE!r}\nfrom test_upkeep import *\n"


def noise(number: int, size: int = 400) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(number).integers(0, 256, size, np.uint8)}


def fill(path, numbers, recipe=RECIPES[0], *, size=400, per=10, named=True) -> Store:
    """A store in which each number is an entry of random bytes with a manifest row, ten a commit."""
    store, numbers = Store(path, "w"), list(numbers)
    for start in range(0, len(numbers), per):
        some = numbers[start : start + per]
        rows = [Source(f"{n}.png", key(n), size=1, mtime_ns=1) for n in some] if named else []
        store.commit(recipe, Batch({key(n): codec.encode(noise(n, size)) for n in some}, rows))
    return store


def content(store: Store) -> dict:
    """All that a store answers, for comparison."""
    records = {
        (recipe.digest, name): store.get(recipe, name)["x"].tobytes()
        for recipe in store.recipes()
        for name in store.keys(recipe)
    }
    tables = {table: dict(store.scan(table)) for table in (b"sources", b"failures")}
    return {"records": records, **tables}


def kinds(result) -> dict[str, list[str]]:
    return {problem.kind: problem.names for problem in result.problems}


# -- verify -------------------------------------------------------------------------------------------------------


def test_a_sound_store_passes(run_cli, tmp_path):
    """A store as builds leave it: every entry counted, nothing found, exit status 0, progress not on stdout."""
    fill(tmp_path / "s.augcache", range(50))
    out = run_cli("verify", tmp_path / "s.augcache", "--json")
    result = json.loads(out.stdout)
    assert out.returncode == 0
    assert (result["entries"], result["sources"], result["corrupt"], result["problems"]) == (50, 50, 0, [])


def test_every_kind_of_damage_is_named(run_cli, tmp_path):
    """Each kind of damage inside sound pages gets one line that names it and says what to do; exit status 1."""
    path = tmp_path / "s.augcache"
    store = fill(path, range(50))
    good = codec.encode(noise(1))
    store.commit(RECIPES[0], Batch({key(60): good[:-1] + bytes([good[-1] ^ 1])}))
    # A record whose checksum is right and whose array is not: what a faulty or hostile writer can make.
    store.commit(RECIPES[0], Batch({key(61): wrong_inside(good)}))
    store.commit(RECIPES[0], Batch(sources=[Source("gone.png", key(999))]))

    def spoil(transaction, databases):
        transaction.put(RECIPES[0].digest + key(62), b"\7" * 16, db=databases[b"index"])
        transaction.put(RECIPES[0].digest + key(63), b"short", db=databases[b"index"])
        transaction.put(b"?" * 16 + key(64), bytes(16), db=databases[b"index"])
        transaction.put(bytes(16) + b"odd\x1b[31m\n", b"row", db=databases[b"sources"])
        transaction.put(RECIPES[0].digest + b"bad", b'{"name": 1e999}', db=databases[b"failures"])

    store.write(spoil)
    out = run_cli("verify", path)
    assert out.returncode == 1
    assert {line.split("\t")[1] for line in out.stdout.splitlines() if line.startswith("corrupt entries\t")} == {
        key(n).hex() for n in (60, 61, 62, 63, 64)
    }
    assert "entries of no recipe\t" + key(64).hex() in out.stdout
    assert "sources without an entry\tgone.png" in out.stdout
    assert "malformed rows\todd\\x1b[31m\\n" in out.stdout
    messages = out.stderr.splitlines()
    assert [line.split(": ")[2].split(";")[0] for line in messages] == [
        "5 corrupt entries", "1 entries of no recipe", "1 sources without an entry", "2 malformed rows",
    ]  # fmt: skip
    # And what it advises works: what is sound is saved, and the new store passes.
    out = run_cli("merge", tmp_path / "new.augcache", path, "--quiet")
    assert out.returncode == 4
    result = verify(tmp_path / "new.augcache")
    assert (result.entries, result.sources, result.problems) == (50, 50, [])


def wrong_inside(good: bytes) -> bytes:
    position = good.index(b"\x01x\x02") + 6  # name, dtype code, encoding, ndim: then the payload's length
    body = bytearray(good[12:])
    shape = position + 4 - 12 - 1
    body[shape] ^= 1
    return sealed(bytes(body))


def test_recompute_finds_what_came_out_different(run_cli, images, tmp_path):
    """An entry that its transform does not give any more is found by computing it again; the others pass."""
    store = Store(tmp_path / "images.augcache", "w")
    build(images, Recipe("toy:toy"), store, workers=0)
    assert verify(store, recompute=6, transforms=["toy:toy"]).problems == []
    assert verify(store, recompute=6, transforms=["toy:toy"]).recomputed == 6
    row = store.source("a/2.png")
    other = {**store.get(Recipe("toy:toy"), row.key), "status": np.array("no")}
    store.commit(Recipe("toy:toy"), Batch({row.key: codec.encode(other)}), replace=True)
    out = run_cli("verify", store.path, "--recompute", 6, "--transform", "toy:toy")
    assert out.returncode == 1
    assert "entries that came out different\ta/2.png" in out.stdout
    assert out.stdout.count("different") == 1


def test_recompute_says_what_it_could_not_do(images, tmp_path):
    """Missing sources and transforms that cannot be imported are problems, not silence; without it none is imported."""
    store = Store(tmp_path / "s.augcache", "w")
    build(images, Recipe("toy:toy"), store, workers=0)
    row = next(store.sources())
    store.commit(ELSEWHERE, Batch({row.key: codec.encode(noise(1))}))
    assert verify(store).problems == []
    named = ["toy:toy", ELSEWHERE.transform]
    found = kinds(verify(store, recompute=20, source=images, transforms=named))
    assert found["too few recomputed"] == ["6 of 20"]
    assert len(found["recipes that cannot be run"]) == 1
    assert "nowhere" in found["recipes that cannot be run"][0]


def test_recompute_of_resized_copies(images, tmp_path):
    """Copies, which are keyed by their own pixels, are computed again like everything else."""
    store = Store(tmp_path / "images.augcache", "w")
    resize(images, Recipe("resize", width=8, height=8), store, workers=0)
    result = verify(store, recompute=6)
    assert (result.recomputed, result.problems) == (6, [])


def test_copies_with_masks_are_passed_over(images, tmp_path):
    """A copy with a mask cannot be made of the image's file alone: it is not compared, and no recipe broken."""
    masks = tmp_path / "masks"
    for image in images.rglob("*.png"):
        mask = masks / image.relative_to(images)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 24), np.uint8)).save(mask)
    store = Store(tmp_path / "images.augcache", "w")
    resize(open_source(images, masks=masks), Recipe("resize", width=8, height=8, masks=True), store, workers=0)
    result = verify(store, recompute=6)
    assert (result.recomputed, [problem.kind for problem in result.problems]) == (0, ["too few recomputed"])


def test_sources_that_changed_vanished_or_are_new(run_cli, images, tmp_path):
    """Every such source is listed, and no other: one that was only copied or touched counts as unchanged."""
    (images / "a/bad.png").write_text("no image")
    store = Store(tmp_path / "images.augcache", "w")
    build(images, Recipe("toy:toy"), store, workers=0)
    assert verify(store, sources=True).problems == []
    write_image(images / "a/0.png", 100, (30, 20))
    os.utime(images / "a/2.png", ns=(1, 1))
    os.utime(images / "b/1.png", ns=(1, 1))
    data = bytearray((images / "b/1.png").read_bytes())
    data[-1] ^= 1
    (images / "b/1.png").write_bytes(data)
    (images / "b/3.png").unlink()
    write_image(images / "c/new.png", 101)
    out = run_cli("verify", store.path, "--sources")
    listed = sorted(line for line in out.stdout.splitlines() if "\t" in line)
    assert listed == [
        "changed sources\ta/0.png", "changed sources\tb/1.png", "new sources\tc/new.png", "vanished sources\tb/3.png",
    ]  # fmt: skip
    assert out.returncode == 1
    out = run_cli("verify", store.path, "--sources", "--source", tmp_path / "nowhere")
    assert out.returncode == 1
    assert "--source" in out.stderr


def test_a_row_that_points_out_of_the_folder_is_not_followed(images, tmp_path):
    """A stranger's manifest cannot make verify read other files of this machine."""
    store = Store(tmp_path / "images.augcache", "w")
    secret = tmp_path / "secret.png"
    write_image(secret, 1)
    rows = [Source(name, key(1), 1, 1) for name in ("../secret.png", str(secret))]
    store.commit(RECIPES[0], Batch({key(1): codec.encode(noise(1))}, rows))
    assert kinds(verify(store, sources=True))["vanished sources"] == ["../secret.png", str(secret)]


# -- merge --------------------------------------------------------------------------------------------------------

numbers = st.sets(st.integers(0, 30), max_size=12)


@settings(max_examples=12, deadline=None)
@given(parts=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3), before=numbers)
def test_a_merge_is_a_union(parts, before):
    """Merged stores answer what each of them answered; merging again changes nothing; no recipe is imported."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "all.augcache"
        expected = content(fill(target, before))
        for index, (some, others) in enumerate(parts):
            store = fill(Path(folder) / f"{index}.augcache", some)
            fill(store.path, others, ELSEWHERE)
            for table, rows in content(store).items():
                expected[table] |= rows
        stores = [Path(folder) / f"{index}.augcache" for index in range(len(parts))]
        copied = merge(target, stores).copied
        assert copied == len(expected["records"]) - len(before)
        assert content(Store(target)) == expected
        assert verify(target).problems == []
        assert merge(target, stores).copied == 0
        assert content(Store(target)) == expected


def test_stores_that_disagree_are_not_merged(run_cli, tmp_path):
    """Two values for one recipe and image: an error that names the entry, and the target is as it was."""
    target, other = fill(tmp_path / "a.augcache", range(20)), fill(tmp_path / "b.augcache", range(30, 40))
    other.commit(RECIPES[0], Batch({key(7): codec.encode(noise(8))}))
    before = content(target)
    out = run_cli("merge", target.path, other.path)
    assert out.returncode == 1
    assert key(7).hex() in out.stderr
    assert "nothing was overwritten" in out.stderr
    assert content(target) == before


def test_the_same_value_compressed_otherwise_is_the_same(tmp_path):
    """Builds with different --level merge."""
    one, two = Store(tmp_path / "1.augcache", "w"), Store(tmp_path / "2.augcache", "w")
    one.commit(RECIPES[0], Batch({key(1): codec.encode({"x": np.zeros(9999, np.uint8)}, level=0)}))
    two.commit(RECIPES[0], Batch({key(1): codec.encode({"x": np.zeros(9999, np.uint8)}, level=9)}))
    assert merge(one.path, [two.path]).reused == 1


def test_a_failure_stays_until_some_store_has_the_entry(tmp_path):
    """Failures are kept, but not that of an image which another machine could compute."""
    one, two = Store(tmp_path / "1.augcache", "w"), fill(tmp_path / "2.augcache", [1, 2])
    one.commit(RECIPES[0], Batch(failures=[Failure("1.png", "killed"), Failure("9.png", "no image")]))
    merge(tmp_path / "all.augcache", [one.path, two.path])
    assert [failure.name for failure in Store(tmp_path / "all.augcache").failures()] == ["9.png"]
    merge(one.path, [two.path])
    assert [failure.name for failure in one.failures()] == ["9.png"]


def test_names_that_clash_are_counted_and_the_store_keeps_its_own(run_cli, tmp_path):
    """Two folders that use one name for two images: both entries are there, the name stands for the first."""
    one, two = fill(tmp_path / "1.augcache", [1]), Store(tmp_path / "2.augcache", "w")
    two.commit(RECIPES[0], Batch({key(2): codec.encode(noise(2))}, [Source("1.png", key(2))]))
    out = run_cli("merge", one.path, two.path, "--json")
    assert json.loads(out.stdout)["clashes"] == 1
    assert one.source("1.png").key == key(1)
    assert len(one) == 2


def test_a_store_is_not_merged_into_itself(tmp_path):
    """That is a slip of the hand, and says so."""
    fill(tmp_path / "s.augcache", [1])
    (tmp_path / "link").symlink_to(tmp_path / "s.augcache")
    with pytest.raises(StoreError, match="into itself"):
        merge(tmp_path / "s.augcache", [tmp_path / "link"])


def killed(work, tries: int, path: Path) -> int:
    """Run work in processes that are killed a little later each; returns how often it was killed before its end."""
    count = 0
    for number in range(tries):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                work()
            os._exit(0)
        time.sleep(0.3 * (number + 0.5) / tries)
        os.kill(child, signal.SIGKILL)
        count += os.waitpid(child, 0)[1] == signal.SIGKILL
        if path.exists():
            assert verify(path).problems == []
    return count


def test_a_killed_merge_is_whole_and_can_go_on(tmp_path):
    """After kill -9 at any moment the target passes verify, and the same command finishes the job."""
    source, target = fill(tmp_path / "1.augcache", range(3000), size=3000, per=500), tmp_path / "all.augcache"
    assert killed(lambda: merge(target, [source.path]), 6, target) >= 2
    result = merge(target, [source.path])
    assert result.copied + result.reused == 3000
    assert content(Store(target)) == content(source)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_too_small_is_found_out_before_the_merge(small_disk, tmp_path):
    """The message gives both sizes, and nothing was copied."""
    source = fill(tmp_path / "1.augcache", range(300), size=40_000, per=50)
    with pytest.raises(StoreError, match=r"needs about 11 MiB more, and the disk has \d MiB free"):
        merge(small_disk / "all.augcache", [source.path])
    assert len(Store(small_disk / "all.augcache")) == 0


def test_a_full_disk_leaves_the_store_as_it_was(small_disk):
    """compact without room for the copy says so in one line; the store is whole and its folder clean."""
    path = small_disk / "s.augcache"
    store = fill(path, range(100), size=38_000, per=20)
    before = content(store)
    with pytest.raises(StoreError, match="no space left"):
        compact(path)
    assert content(Store(path)) == before
    assert verify(path).problems == []
    assert not (path / "compact.tmp").exists()


# -- prune --------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(one=numbers, two=numbers, own=numbers)
def test_prune_takes_one_recipe_and_no_more(one, two, own):
    """Of a pruned recipe nothing is left but what others share; everything of the others is as it was."""
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder) / "s.augcache", one)
        store.commit(RECIPES[0], Batch(failures=[Failure("x", "y")]))
        fill(store.path, two, RECIPES[1])
        rows = [Source(f"{n}.mp4", key(n), frame=n) for n in own]
        store.commit(RECIPES[0], Batch({key(n): codec.encode(noise(n)) for n in own}, rows), prefix=RECIPES[0].digest)
        result = prune(store.path, RECIPES[0].digest.hex()[:12])
        with tempfile.TemporaryDirectory() as other:
            expected = content(fill(Path(other) / "s.augcache", two, RECIPES[1]))
            assert content(store) == expected
        assert (result.entries, result.failures) == (len(one | own), 1)
        assert verify(store).problems == []
        assert [recipe.digest for recipe in store.recipes()] == ([RECIPES[1].digest] if two else [])
        assert not list(store.scan(b"slabs", RECIPES[0].digest))


def test_prune_needs_one_recipe(run_cli, tmp_path):
    """A digest that fits none, or several, is one line that lists what there is."""
    store = fill(tmp_path / "s.augcache", [1])
    out = run_cli("prune", store.path, "--recipe", "zz")
    assert out.returncode == 1
    assert RECIPES[0].digest.hex()[:8] in out.stderr
    assert run_cli("prune", store.path, "--recipe", RECIPES[0].digest.hex()[:8]).returncode == 0
    assert len(store) == 0


# -- compact ------------------------------------------------------------------------------------------------------


def test_compact_gives_the_disk_back(run_cli, tmp_path):
    """Replaced and pruned entries, and slabs of many small commits, cost no disk afterwards; nothing else changes."""
    store = fill(tmp_path / "s.augcache", range(1000), per=10, size=1000)
    fill(store.path, range(1000), RECIPES[1], size=2000, per=500)
    prune(store.path, RECIPES[1].digest.hex())
    for n in range(0, 1000, 20):
        store.commit(RECIPES[0], Batch({key(n): codec.encode(noise(n, 1000))}), replace=True)
    before = content(store)
    out = run_cli("compact", store.path, "--json")
    result = json.loads(out.stdout)
    assert out.returncode == 0
    assert result["won"] == result["before"] - result["after"] > 0
    assert result["after"] == (store.path / "data.mdb").stat().st_size < 1000 * 1000 * 1.4
    fresh = Store(store.path, "w")
    assert content(fresh) == before
    assert verify(fresh).problems == []
    assert compact(store.path).won == 0


def test_compact_takes_apart_large_slabs_that_are_half_dead(tmp_path, monkeypatch):
    """Slabs of an earlier release hold megabytes; what half of one took is given back though the rest is not small."""
    path = tmp_path / "s.augcache"
    with monkeypatch.context() as earlier:
        earlier.setattr("augcache.storage.tables.SLAB_BYTES", 1 << 22)
        store = fill(path, range(1000), size=1000, per=1000)
        for n in range(600):
            store.commit(RECIPES[0], Batch({key(n): codec.encode(noise(n, 1000))}), replace=True)
    before = content(store)
    assert compact(path).after < 1000 * 1000 * 1.4
    assert content(Store(path)) == before


def test_a_killed_compact_is_whole(tmp_path):
    """After kill -9 at any moment the store has every record; the next compact clears up what was left."""
    path = tmp_path / "s.augcache"
    before = content(fill(path, range(3000), size=3000, per=60))
    assert killed(lambda: compact(path), 8, path) >= 2
    assert content(Store(path)) == before
    compact(path)
    assert content(Store(path)) == before
    assert not (path / "compact.tmp").exists()


def test_nobody_notices_a_compact(tmp_path):
    """A reader and a writer of other processes go on; what the writer commits afterwards is in the new file."""
    path = tmp_path / "s.augcache"
    fill(path, range(500))
    code = f"""
store = Store({str(path)!r}, "w")
print(len(store), flush=True)
for line in sys.stdin:
    n = int(line)
    if n: store.commit(RECIPES[0], Batch({{key(n): codec.encode(noise(n))}}))
    assert all(np.array_equal(store.get(RECIPES[0], key(i))["x"], noise(i)["x"]) for i in range(0, 500, 50))
    print(len(store), flush=True)
"""
    others = [
        subprocess.Popen([sys.executable, "-c", PREAMBLE + code], stdin=-1, stdout=-1, text=True) for _ in range(2)
    ]

    def ask(process, n):
        process.stdin.write(f"{n}\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    assert [int(process.stdout.readline()) for process in others] == [500, 500]
    mine = Store(path, "w")
    for turn in range(1, 4):
        compact(path)
        assert ask(others[1], 0) >= 500
        assert ask(others[0], 1000 + turn) == 500 + 2 * turn - 1
        mine.commit(RECIPES[0], Batch({key(2000 + turn): codec.encode(noise(2000 + turn))}))
        assert len(mine) == len(Store(path)) == 500 + 2 * turn
    for process in others:
        process.communicate(timeout=30)
    assert verify(path).entries == 506
    assert verify(path).problems == []


def test_upkeep_waits_for_nobody(run_cli, tmp_path):
    """While a build runs, the commands that write refuse in one line."""
    store = fill(tmp_path / "s.augcache", range(10))
    other = fill(tmp_path / "o.augcache", range(10, 20))
    with store.exclusive():
        for command in (("compact",), ("prune", "--recipe", "c"), ("merge", other.path)):
            out = run_cli(command[0], store.path, *command[1:])
            assert out.returncode == 1
            assert "another augcache command is writing" in out.stderr
    assert len(store) == 10


def test_a_removed_store_is_an_error(tmp_path):
    """Committing to a store whose folder was deleted is an error, and does not vanish in a deleted file."""
    store = fill(tmp_path / "s.augcache", range(10))
    shutil.rmtree(store.path)
    with pytest.raises(StoreError):
        store.put(RECIPES[0], key(1), record(1))


def test_a_recipe_row_of_a_stranger_is_one_clear_error(run_cli, tmp_path):
    """Whatever stands in the table of recipes, reading it gives an error of ours."""
    for row in (b"[" * 100_000, b"\xff", b"{}", b"7", b'{"recipe": "[]", "provenance": 3}', b'{"recipe": "{}"}'):
        path = tmp_path / "s.augcache"
        shutil.rmtree(path, ignore_errors=True)
        store = fill(path, range(3))
        store.write(lambda transaction, databases, row=row: transaction.put(bytes(16), row, db=databases[b"recipes"]))
        for use in (
            store.recipes,
            store.info,
            lambda store=store: verify(store),
            lambda path=path: merge(tmp_path / "new", [path]),
        ):
            with pytest.raises(CorruptError):
                use()


def test_readers_stay_while_compacts_are_killed(tmp_path):
    """Stores that stay open answer right and never forget an entry, beside a writer and compacts that kill -9 ends."""
    path, until, rng = tmp_path / "s.augcache", time.monotonic() + 4, np.random.default_rng(0)
    fill(path, range(100))

    def read():
        store, least = Store(path), 100
        while time.monotonic() < until:
            count, n = len(store), int(rng.integers(100))
            assert count >= least
            assert np.array_equal(store.get(RECIPES[0], key(n))["x"], noise(n)["x"])
            assert sum(1 for _ in store.keys(RECIPES[0])) >= count
            least = count

    def write():
        n = 1000
        while time.monotonic() < until:
            Store(path, "w").commit(RECIPES[0], Batch({key(n): codec.encode(noise(n))}))
            n += 1
            time.sleep(0.01)
        (tmp_path / "written").write_text(str(n - 1000))

    def child(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            except BaseException:  # noqa: BLE001  # whatever it is, the parent must know
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        return pid

    children, ends = [child(read), child(read), child(write)], []
    while time.monotonic() < until:
        pid = child(lambda: compact(path))
        if len(ends) % 3:  # the others come to their end
            time.sleep(rng.random() * 0.06)
            os.kill(pid, signal.SIGKILL)
        ends.append(os.waitpid(pid, 0)[1])
    assert set(ends[::3]) == {0}
    assert signal.SIGKILL in ends
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 3
    compact(path)
    assert not (path / "compact.tmp").exists()
    assert verify(path).problems == []
    assert len(Store(path)) == 100 + int((tmp_path / "written").read_text())


def test_compacting_all_the_time_loses_nothing(tmp_path):
    """Writers without the lock and readers that come and go, beside compact after compact: every commit is there."""
    path, until = tmp_path / "s.augcache", time.monotonic() + 3
    fill(path, range(100))

    def write(base):
        n = base
        while time.monotonic() < until:
            store = Store(path, "w")
            for _ in range(5):
                store.commit(RECIPES[0], Batch({key(n): codec.encode(noise(n))}))
                assert np.array_equal(store.get(RECIPES[0], key(n))["x"], noise(n)["x"])
                n += 1
        (tmp_path / f"{base}.txt").write_text(str(n - base))

    def read(_):
        while time.monotonic() < until:
            (path / "checked").unlink(missing_ok=True)
            assert np.array_equal(Store(path).get(RECIPES[0], key(50))["x"], noise(50)["x"])

    def make_small(_):
        while time.monotonic() < until:
            compact(path)

    children = []
    for work, argument in ((write, 10**6), (write, 2 * 10**6), (read, 0), (make_small, 0)):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                work(argument)
            except BaseException:  # noqa: BLE001  # whatever it is, the parent must know
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    written = sum(int((tmp_path / f"{base}.txt").read_text()) for base in (10**6, 2 * 10**6))
    assert verify(path).problems == []
    assert len(Store(path)) == 100 + written

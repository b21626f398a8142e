"""How a build scales over workers and engines, and how many cores one driver can feed.

    python benchmarks/scaling.py [DATA/saliency] [--pictures 64] [--repeats 3]

Dask and Ray are started on this machine where they are installed (extras `dask` and `ray`), else left out. Each
engine has as many worker processes as the row says; the engines take turns, and medians count. With one worker the
driver, and Dask's or Ray's own processes, have the second core to themselves; with two they share, so that what is
lost to an engine is in the efficiency.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from augcache import Recipe, Store, build, transform
from augcache.merge import merge
from augcache.workers import open_pool

TESTS = Path(__file__).parents[1] / "tests"
STUB_PIXELS = (8, 8)


@transform(version=1)
def stub(image):
    """A transform that costs nothing; its record is as large as a typical one of SaliencyCut."""
    return {"noise": np.random.default_rng(int(image[0, 0, 0])).integers(0, 256, 4000, dtype=np.uint8)}


def nothing(jobs):
    """What a stubbed group gives: a record of 4 KB for each job."""
    return [bytes(4000) for _ in jobs]


def crops(data: Path, count: int, folder: Path) -> Path:
    """Write distinct pictures of 400 x 300, cut from photographs that are at least as large, turned to landscape."""
    files = sorted(path for path in data.rglob("*.jpg") if "msra" in str(path).lower())
    folder.mkdir()
    made = 0
    for shift in range(100):
        for path in files:
            if made == count:
                return folder
            with Image.open(path) as picture:
                upright = picture.convert("RGB")
            upright = upright.rotate(90, expand=True) if upright.height > upright.width else upright
            # The same photograph again is shifted around its edge: other pixels, and the same kind of work.
            pixels = np.roll(np.asarray(upright.resize((400, 300))), 16 * shift, axis=1)
            Image.fromarray(pixels).save(folder / f"{made:05d}.jpg", quality=95)
            made += 1
    raise SystemExit(f"{data}: no MSRA pictures found")


def small(count: int, folder: Path) -> Path:
    """Write distinct tiny pictures."""
    folder.mkdir()
    for number in range(count):
        pixels = np.full((*STUB_PIXELS, 3), number % 251, np.uint8)
        pixels[0, 0] = number // 251 % 251, number // 63001, 7
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")
    return folder


@contextlib.contextmanager
def engines(folder: Path):
    """Start what is installed; yields (name, workers) to the options of `build`."""
    with contextlib.ExitStack() as stack:
        found = {("loky", count): {"workers": count} for count in (1, 2)}
        sys.path.insert(0, str(TESTS))
        with contextlib.suppress(ImportError):
            import clusters  # needs psutil, which Dask brings

            for name, library in (("dask", "distributed"), ("ray", "ray")):
                with contextlib.suppress(ImportError):
                    __import__(library)
                    start(stack, clusters, name, folder, found)
        yield found


def start(stack, clusters, name: str, folder: Path, found: dict) -> None:
    clusters.ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(TESTS)])
    for count in (1, 2):
        (folder / f"{name}{count}").mkdir()
        if name == "dask":
            cluster = stack.enter_context(clusters.dask(folder / f"{name}{count}", workers=count))
        elif count == 2:
            cluster = stack.enter_context(clusters.ray(folder / f"{name}{count}"))  # one head serves both
            found[name, 1] = {"backend": name, "scheduler": cluster.address, "workers": 1}
        else:
            continue
        found[name, count] = {"backend": name, "scheduler": cluster.address, "workers": count}


def seconds_of(source: Path, recipe: Recipe, store: Path, options: dict) -> float:
    """Time from the first picture handed out to the last committed, without connecting."""
    reports = []
    report = build(source, recipe, store, progress=lambda _: reports.append(time.monotonic()), **options)
    assert report.computed + report.reused == report.total, report
    return time.monotonic() - reports[0]


def saliency(found: dict, data: Path, pictures: int, repeats: int, folder: Path) -> float:
    """Print throughput and efficiency; returns seconds of one picture on one core."""
    recipe, source = Recipe("saliencycut"), crops(data, pictures, folder / "crops")
    taken: dict = {key: [] for key in found}
    for key, options in found.items():
        seconds_of(source, recipe, folder / f"warm-{key[0]}{key[1]}", {**options, "limit": 4 * options["workers"]})
    for repeat in range(repeats):
        for key, options in found.items():
            taken[key].append(seconds_of(source, recipe, folder / f"{key[0]}{key[1]}-{repeat}", options))
    print(f"\nSaliencyCut of {pictures} pictures of 400x300:\n")
    print("| engine | 1 worker, pictures/s | 2 workers, pictures/s | efficiency |")
    print("|---|---|---|---|")
    median = {key: statistics.median(times) for key, times in taken.items()}
    for name in dict.fromkeys(key[0] for key in found):
        one, two = pictures / median[name, 1], pictures / median[name, 2]
        print(f"| {name} | {one:.1f} | {two:.1f} | {two / one / 2:.2f} |")
    return median["loky", 1] / pictures


def overhead(found: dict, repeats: int, folder: Path, groups: int = 400) -> None:
    """Print what an engine adds to a picture, computed in this process and not at all."""
    recipe, count = Recipe("scaling:stub"), 600
    source = small(count, folder / "small")
    rows: dict = {}
    keys = [key for key in found if key[1] == 2]
    for repeat in range(repeats):
        alone = seconds_of(source, recipe, folder / f"stub-alone-{repeat}", {"workers": 0})
        rows.setdefault(("in this process", "build"), []).append(1e3 * alone / count)
        for key in keys:
            store = folder / f"stub-{key[0]}-{repeat}"
            rows.setdefault((key[0], "build"), []).append(1e3 * seconds_of(source, recipe, store, found[key]) / count)
            with open_pool(**found[key]) as pool:
                list(pool.run(nothing, ([0] for _ in range(20))))
                started = time.monotonic()
                for _ in pool.run(nothing, ([0] for _ in range(groups))):
                    pass
                rows.setdefault((key[0], "group"), []).append(1e3 * (time.monotonic() - started) / groups)
    print(f"\nTransform stubbed out, {count} pictures of 8x8, two workers:\n")
    print("| engine | ms a picture, in all | ms a group there and back |")
    print("|---|---|---|")
    for name in ["in this process", *(key[0] for key in keys)]:
        whole, group = (statistics.median(rows.get((name, what), [0])) for what in ("build", "group"))
        print(f"| {name} | {whole:.2f} | {group:.2f} |")


def driver(found: dict, repeats: int, one: float) -> None:
    """Print how many records a second one driver takes in, in groups of 4 as builds send them, and what follows."""
    print("\nThe driver's limit, records of 4 KB in groups of 4 that cost nothing to make:\n")
    print("| engine | records/s | cores of SaliencyCut that one driver feeds |")
    print("|---|---|---|")
    for key, options in found.items():
        if key[1] == 1:
            continue
        rates = []
        with open_pool(**options) as pool:
            list(pool.run(nothing, ([0] * 4 for _ in range(20))))
            for _ in range(repeats):
                started, records = time.process_time(), 0
                for _, results in pool.run(nothing, ([0] * 4 for _ in range(500))):
                    records += len(results)
                rates.append(records / (time.process_time() - started))
        rate = statistics.median(rates)
        print(f"| {key[0]} | {rate:.0f} | {rate * one:.0f} |")
    print(f"\none core takes {1e3 * one:.0f} ms a picture; the rate is by CPU time of the driver's process")


def joining(folder: Path, records: int = 40_000) -> None:
    """Print how fast the writer commits and `merge` joins."""
    from augcache import codec
    from augcache.keys import ContentKey
    from augcache.manifest import Source
    from augcache.store import Batch

    recipe, stores = Recipe("scaling:stub"), []
    record = codec.encode({"noise": np.random.default_rng(0).integers(0, 256, 4000, dtype=np.uint8)})
    started = time.monotonic()
    for part in range(2):
        store = Store(folder / f"part{part}.augcache", "w")
        for start_at in range(0, records // 2, 1000):
            keys = [ContentKey(bytes([part]) + n.to_bytes(15, "little")) for n in range(start_at, start_at + 1000)]
            rows = [Source(f"{part}/{key.hex()}.jpg", key, 1, 1) for key in keys]
            store.commit(recipe, Batch(records=dict.fromkeys(keys, record), sources=rows))
        stores.append(store.path)
    wrote = records / (time.monotonic() - started)
    merged = merge(folder / "all.augcache", stores)
    print(f"\ncommits: {wrote:.0f} records/s of 4 KB; merge: {merged.copied / merged.seconds:.0f} records/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data/saliency"))
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")})
    print(f"load before: {', '.join(f'{value:.1f}' for value in os.getloadavg())}; {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name, engines(Path(name)) as found:
        folder = Path(name)
        one = saliency(found, arguments.data, arguments.pictures, arguments.repeats, folder)
        overhead(found, arguments.repeats, folder)
        driver(found, arguments.repeats, one)
        joining(folder)
    print(f"load after: {', '.join(f'{value:.1f}' for value in os.getloadavg())}")


if __name__ == "__main__":
    main()

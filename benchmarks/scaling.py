"""How a build scales over workers and engines, and how many cores one driver can feed.

    python benchmarks/scaling.py [DATA/saliency] [--images 192] [--repeats 3] [--engines local]

Dask and Ray are started on this machine where they are installed (extras `dask` and `ray`), else left out. Each
engine has as many worker processes as the row says; the engines take turns, and medians count. With one worker the
driver, and Dask's or Ray's own processes, have the second core to themselves; with two they share, so that what is
lost to an engine is in the efficiency. A cluster that only waits uses some CPU time too: give one engine at a time.
"""

import argparse
import contextlib
import multiprocessing as mp
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from augcache import Recipe, Store, build
from augcache.building.workers import open_pool
from augcache.images.decode import decode_views
from augcache.transforms.saliencycut import saliencycut
from augcache.upkeep.merge import merge

TESTS = Path(__file__).parents[1] / "tests"
STUB_PIXELS = (8, 8)


STUB = """
import numpy as np
from augcache import transform


@transform(version=1)
def stub(image):
    '''A record as large as a typical one of SaliencyCut, at no cost.'''
    return {"noise": np.random.default_rng(int(image[0, 0, 0])).integers(0, 256, 4000, dtype=np.uint8)}
"""


def nothing(jobs):
    """What a stubbed group gives: a record of 4 KB for each job."""
    return [bytes(4000) for _ in jobs]


def crops(data: Path, count: int, folder: Path) -> Path:
    """Write distinct images of 400 x 300, cut from photographs that are at least as large, turned to landscape."""
    files = sorted(path for path in data.rglob("*.jpg") if "msra" in str(path).lower())
    folder.mkdir()
    made = 0
    for shift in range(100):
        for path in files:
            if made == count:
                return folder
            with Image.open(path) as image:
                upright = image.convert("RGB")
            upright = upright.rotate(90, expand=True) if upright.height > upright.width else upright
            # The same photograph again is shifted around its edge: other pixels, and the same kind of work.
            pixels = np.roll(np.asarray(upright.resize((400, 300))), 16 * shift, axis=1)
            Image.fromarray(pixels).save(folder / f"{made:05d}.jpg", quality=95)
            made += 1
    raise SystemExit(f"{data}: no MSRA images found")


def small(count: int, folder: Path) -> Path:
    """Write distinct tiny images."""
    folder.mkdir()
    for number in range(count):
        pixels = np.full((*STUB_PIXELS, 3), number % 251, np.uint8)
        pixels[0, 0] = number // 251 % 251, number // 63001, 7
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")
    return folder


@contextlib.contextmanager
def engines(folder: Path, names: list[str]):
    """Start what is installed; yields (name, workers) to the options of `build`."""
    with contextlib.ExitStack() as stack:
        found = {("local", count): {"workers": count} for count in (1, 2) if "local" in names}
        (folder / "stubs.py").write_text(STUB)
        sys.path[:0] = [str(folder), str(TESTS)]
        with contextlib.suppress(ImportError):
            import clusters  # needs psutil, which Dask brings

            for name, library in (("dask", "distributed"), ("ray", "ray")):
                with contextlib.suppress(ImportError):
                    if name not in names:
                        continue
                    __import__(library)
                    start(stack, clusters, name, folder, found)
        yield found


def start(stack, clusters, name: str, folder: Path, found: dict) -> None:
    clusters.ENVIRONMENT["PYTHONPATH"] = str(folder)
    for count in (1, 2):
        (folder / f"{name}{count}").mkdir()
        if name == "dask":
            cluster = stack.enter_context(clusters.dask(folder / f"{name}{count}", workers=count))
        elif count == 2:
            cluster = stack.enter_context(clusters.ray(folder / f"{name}{count}"))  # one head serves both
            import ray

            # A connection that lasts keeps its workers from build to build, as Dask and local processes do anyway.
            ray.init(cluster.address, log_to_driver=False, logging_level="critical")
            stack.callback(ray.shutdown)
            found[name, 1] = {"backend": name, "scheduler": cluster.address, "workers": 1}
        else:
            continue
        found[name, count] = {"backend": name, "scheduler": cluster.address, "workers": count}


def cpu_seconds() -> float:
    """CPU time of all processes of this machine, since an engine's are not all below this one; without psutil, NaN."""
    try:
        import psutil
    except ImportError:
        return float("nan")
    times = psutil.cpu_times()
    return times.user + times.nice + times.system


def seconds_of(source: Path, recipe: Recipe, store: Path, options: dict) -> float:
    """Time from the first image handed out to the last committed, without connecting."""
    reports = []
    report = build(source, recipe, store, progress=lambda _: reports.append(time.monotonic()), **options)
    assert report.computed + report.reused == report.total, report
    return time.monotonic() - reports[0]


def ceiling(source: Path, count: int = 24) -> float:
    """Time of some images in one process, over that of as many in each of two at the same time."""
    files, seconds = sorted(source.iterdir())[:count], []
    spawn = mp.get_context("spawn")
    for processes in (1, 2):
        ready = spawn.Barrier(processes + 1)
        with spawn.Pool(processes, warm_up, (files[:2], ready)) as pool:
            ready.wait()
            started = time.monotonic()
            pool.map(transform_all, [files] * processes, 1)
            seconds.append(time.monotonic() - started)
    return seconds[0] / seconds[1]


def warm_up(files: list[Path], ready) -> None:
    """Import and load the kernels, then wait until all have."""
    transform_all(files)
    ready.wait()


def transform_all(files: list[Path]) -> None:
    """Decode and transform, and keep nothing."""
    cv2.setNumThreads(1)
    for path in files:
        saliencycut(decode_views(path.read_bytes())[0])


def saliency(found: dict, data: Path, images: int, repeats: int, folder: Path) -> float:
    """Print throughput and efficiency; returns CPU seconds of one image in this process."""
    recipe, source = Recipe("saliencycut"), crops(data, images, folder / "crops")
    taken: dict = {key: [] for key in found}
    cpu: dict = {key: [] for key in found}
    for key, options in found.items():
        seconds_of(source, recipe, folder / f"warm-{key[0]}{key[1]}", {**options, "limit": 8 * options["workers"]})
    few = max(4, images // 4)
    seconds_of(source, recipe, folder / "warm", {"workers": 0, "limit": 2})
    alone: list[float] = []
    ceilings: list[float] = []
    for repeat in range(repeats):
        for key, options in found.items():
            before = cpu_seconds()
            taken[key].append(seconds_of(source, recipe, folder / f"{key[0]}{key[1]}-{repeat}", options))
            cpu[key].append(cpu_seconds() - before)
        started = time.process_time()
        seconds_of(source, recipe, folder / f"alone-{repeat}", {"workers": 0, "limit": few})
        alone.append((time.process_time() - started) / few)
        ceilings.append(ceiling(source))
    print(f"\nSaliencyCut of {images} images of 400x300; two processes that know nothing of each other reach an")
    print(f"efficiency of {statistics.median(ceilings):.2f} on this machine:\n")
    print("| engine | 1 worker, images/s | 2 workers | efficiency | CPU ms an image, whole machine |")
    print("|---|---|---|---|---|")
    median = {key: statistics.median(times) for key, times in taken.items()}
    for name in dict.fromkeys(key[0] for key in found):
        one, two = images / median[name, 1], images / median[name, 2]
        spent = 1e3 * statistics.median(cpu[name, 2]) / images
        print(f"| {name} | {one:.1f} | {two:.1f} | {two / one / 2:.2f} | {spent:.0f} |")
    store = Store(folder / f"{next(iter(found))[0]}2-0").info()
    print(f"\nin one process: {1e3 * statistics.median(alone):.0f} ms of CPU an image")
    print(f"on disk: {store.bytes / store.entries:.0f} bytes an image")
    return statistics.median(alone)


def overhead(found: dict, repeats: int, one: float, folder: Path) -> None:
    """Print what an engine adds to an image, and how many images one driver can take in."""
    recipe, count, groups = Recipe("stubs:stub"), 1000, 300
    source = small(count, folder / "small")
    rows: dict = {}
    keys = [key for key in found if key[1] == 2]

    def note(name: str, what: str, value: float) -> None:
        rows.setdefault((name, what), []).append(1e3 * value)

    for repeat in range(repeats):
        for name, options in [("in this process", {"workers": 0}), *((key[0], found[key]) for key in keys)]:
            started = time.process_time()
            wall = seconds_of(source, recipe, folder / f"stub-{name}-{repeat}", options)
            note(name, "driver", (time.process_time() - started) / count)
            note(name, "wall", wall / count)
            if name == "in this process":
                continue
            with open_pool(**options) as pool:
                list(pool.run(nothing, ([0] for _ in range(20))))
                started = time.monotonic()
                list(pool.run(nothing, ([0] for _ in range(groups))))
                note(name, "group", (time.monotonic() - started) / groups)
    print(f"\nTransform stubbed out, {count} images of 8x8 with records of 4 KB, two workers:\n")
    print(
        "| engine | ms an image | ms a group there and back | driver's CPU, ms an image | images/s | cores it feeds |"
    )
    print("|---|---|---|---|---|---|")
    for name in ["in this process", *(key[0] for key in keys)]:
        wall, group, driver = (statistics.median(rows.get((name, what), [0])) for what in ("wall", "group", "driver"))
        print(f"| {name} | {wall:.2f} | {group:.2f} | {driver:.2f} | {1e3 / driver:.0f} | {one * 1e3 / driver:.0f} |")
    print(f"\ncores: of SaliencyCut at {1e3 * one:.0f} ms an image, while the driver has a core for itself")


def joining(folder: Path, records: int = 40_000) -> None:
    """Print how fast the writer commits and `merge` joins."""
    from augcache.images.keys import ContentKey
    from augcache.records import codec
    from augcache.storage.manifest import Source
    from augcache.storage.store import Batch

    recipe, stores = Recipe("stubs:stub"), []
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
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["local", "dask", "ray"], help="as few as you like at a time")
    arguments = parser.parse_args()
    os.environ.update({f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "NUMBA")})
    print(f"load before: {', '.join(f'{value:.1f}' for value in os.getloadavg())}; {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as name, engines(Path(name), arguments.engines) as found:
        folder = Path(name)
        one = saliency(found, arguments.data, arguments.images, arguments.repeats, folder)
        overhead(found, arguments.repeats, one, folder)
        joining(folder)
    print(f"load after: {', '.join(f'{value:.1f}' for value in os.getloadavg())}")


if __name__ == "__main__":
    main()

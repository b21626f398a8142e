"""Does a store of a million entries cost more than one of a thousand? Synthetic entries of 1 KB.

    python benchmarks/store_scale.py [--largest 1000000]

Each figure is the median of three fresh processes: opening (median of 9), info, a look-up in CPU microseconds over the
first 20,000 random keys, and over 20,000 once every entry was read; and the growth of the process's own memory, pages
of the store not counted, over 100,000 more.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from augcache import Recipe, Store
from augcache.images.keys import ContentKey
from augcache.records import codec
from augcache.storage.manifest import Source
from augcache.storage.store import Batch

RECIPE = Recipe("resize")

READER = """
import sys, time, statistics, json, random, resource
from augcache import Recipe, Store
from augcache.images.keys import ContentKey
path, recipe, times = sys.argv[1], Recipe("resize"), []
for _ in range(9):
    start = time.perf_counter(); store = Store(path); times.append(time.perf_counter() - start); del store
store = Store(path)
start = time.perf_counter(); store.info(); info = time.perf_counter() - start
keys = list(store.keys(recipe))
rng = random.Random(0)
def own():
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
def read(count):
    start = time.process_time()
    for key in rng.choices(keys, k=count):
        store.get(recipe, key)["image"]
    return (time.process_time() - start) / count * 1e6
first = read(20000)
for key in keys:
    store.get(recipe, key)
cost = statistics.median(read(20000) for _ in range(5))
before = own()
read(100000)
result = {
    "open": statistics.median(times) * 1e3, "info": info * 1e3, "first": first, "get": cost, "grew": own() - before
}
json.dump(result, sys.stdout)
"""


def fill(path: Path, count: int) -> float:
    """Write `count` entries and manifest rows; returns entries a second."""
    store, rng, start = Store(path, "w"), np.random.default_rng(0), time.perf_counter()
    bodies = [codec.encode({"image": rng.integers(0, 64, (16, 16, 5), dtype=np.uint8)}) for _ in range(500)]
    for first in range(0, count, 4000):
        numbers = range(first, min(first + 4000, count))
        keys = [ContentKey(os.urandom(16)) for _ in numbers]
        records = {key: bodies[number % 500] for key, number in zip(keys, numbers, strict=True)}
        rows = [Source(f"{number:08d}.jpg", key, 1, 1) for key, number in zip(keys, numbers, strict=True)]
        store.commit(RECIPE, Batch(records=records, sources=rows), prefix=RECIPE.digest)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=1_000_000)
    largest = parser.parse_args().largest
    heads = ["entries", "written per s", "open, ms", "info, ms", "first look-ups, us", "look-up, us"]
    print("| " + " | ".join([*heads, "memory grew, KB", "bytes per entry"]) + " |")
    print("|---|---|---|---|---|---|---|---|")
    count = 1000
    while count <= largest:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "s.augcache"
            rate = fill(path, count)
            size = (path / "data.mdb").stat().st_size / count
            runs = [
                json.loads(
                    subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, check=True).stdout
                )
                for _ in range(3)
            ]
            row = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
            figures = [row["open"], row["info"], row["first"], row["get"]]
            cells = [count, f"{rate:.0f}", *(f"{figure:.1f}" for figure in figures), row["grew"], f"{size:.0f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        count *= 10


if __name__ == "__main__":
    main()

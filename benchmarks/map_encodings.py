"""How to store an index map: bytes against microseconds, on real saliency records, in one run.

python benchmarks/map_encodings.py [STORE]    (default: a store of the sample images, built on the spot)
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from PIL import Image

from augcache import Recipe, Store, build
from augcache.records import codec

ROUNDS = 9
Pair = tuple[Callable[[np.ndarray], bytes], Callable[[bytes], Any]]


def zstd(level: int) -> Pair:
    compressor, decompressor = zstandard.ZstdCompressor(level), zstandard.ZstdDecompressor()
    return lambda labels: compressor.compress(labels.tobytes()), decompressor.decompress


def runs(level: int) -> Pair:
    """Runs of equal values as a record keeps them; the time includes writing the map out."""

    def encode(labels: np.ndarray) -> bytes:
        return codec.encode({"labels": labels}, level=level)

    return encode, lambda data: codec.decode(data)["labels"]


def pillow(format: str, **options: Any) -> Pair:
    def encode(labels: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(labels).convert("RGB" if format == "WEBP" else "L").save(buffer, format, **options)
        return buffer.getvalue()

    return encode, lambda data: np.asarray(Image.open(io.BytesIO(data)))


def candidates(shape: tuple[int, ...]) -> dict[str, Pair]:
    found: dict[str, Pair] = {
        "raw": (lambda labels: labels.tobytes(), lambda data: np.frombuffer(data, np.uint8).copy())
    }
    found |= {f"zstd {level}": zstd(level) for level in (1, 3, 9, 15, 19)}
    found |= {f"runs, zstd {level}{' (the default)' if level == 9 else ''}": runs(level) for level in (1, 9, 19)}
    try:
        from lz4 import block
    except ImportError:
        print("lz4: not installed")
    else:
        size = int(np.prod(shape))
        found["lz4"] = (lambda labels: block.compress(labels.tobytes(), store_size=False),
                        lambda data: block.decompress(data, uncompressed_size=size))  # fmt: skip
        found["lz4hc 12"] = (
            lambda labels: block.compress(labels.tobytes(), mode="high_compression", compression=12, store_size=False),
            lambda data: block.decompress(data, uncompressed_size=size),
        )
    try:
        import blosc2
    except ImportError:
        print("blosc2: not installed")
    else:
        found["blosc2 zstd 9"] = (
            lambda labels: blosc2.compress(labels, clevel=9, filter=blosc2.Filter.NOFILTER, codec=blosc2.Codec.ZSTD),
            blosc2.decompress,
        )
    found["PNG"] = pillow("PNG")
    found["WebP lossless"] = pillow("WEBP", lossless=True)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        if len(sys.argv) > 1:
            store = Store(sys.argv[1])
        else:
            samples = Path(__file__).parents[1] / "samples"
            store = Store(build(samples, Recipe("saliencycut"), Path(scratch) / "samples.augcache").store)
        [recipe, *_] = store.recipes()
        shape, maps = None, []
        for key in list(store.keys(recipe))[:400]:
            labels = np.asarray((store.get(recipe, key) or {})["labels"])
            if labels.dtype == np.uint8 and (shape is None or labels.shape == shape):
                shape = labels.shape
                maps.append(labels)
        assert shape is not None
        rows = []
        for name, (encode, decode) in candidates(shape).items():
            start = time.process_time()
            encoded = [encode(labels) for labels in maps]
            encoding = (time.process_time() - start) / len(maps) * 1e6
            rows.append((name, encoded, encoding, decode, []))
        for _ in range(ROUNDS):  # the candidates take turns
            for _, encoded, _, decode, times in rows:
                start = time.process_time()
                for data in encoded:
                    decode(data)
                times.append((time.process_time() - start) / len(maps) * 1e6)
        print(f"\n{len(maps)} index maps of {shape[1]}x{shape[0]}, one thread\n")
        print("| encoding | bytes | us to decode | us to encode |\n|---|---|---|---|")
        for name, encoded, encoding, _, times in rows:
            size = statistics.mean(map(len, encoded))
            print(f"| {name} | {size:.0f} | {statistics.median(times):.0f} | {encoding:.0f} |")


if __name__ == "__main__":
    main()

"""What one fixed-size copy of a JPEG photograph costs, and how close it is to a full decode and a Lanczos filter.

    python benchmarks/resize.py [DATA]

Photographs of 0.5 to 12 megapixels are made from the real ones in DATA (default ../shared/data), which are smaller:
half are enlarged (smooth, as from a soft lens), half are tiled from many (as much detail a pixel as the originals).
Every library makes the same copies in one run, one thread, turn by turn; the figures are medians of CPU time. The
libraries that are not installed are left out: pip install simplejpeg "pyvips[binary]" img2dataset.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["VIPS_CONCURRENCY"] = "1"

import cv2
import numpy as np
from PIL import Image
from psnr import psnr

from augcache.images.decode import decode_small
from augcache.transforms.resize import least, place, render

Method = Callable[[bytes], np.ndarray]
MEGAPIXELS = (0.5, 1, 2, 4, 8, 12)


def photographs(data: Path, megapixels: float, count: int) -> list[bytes]:
    files = [*sorted((data / "coco128" / "images").iterdir()), *sorted((data / "bsds500").rglob("*.jpg"))]
    sources = [Image.open(file).convert("RGB") for file in files[:48]]
    made = []
    for index in range(count):
        first = sources[index % len(sources)]
        scale = (megapixels * 1e6 / (first.width * first.height)) ** 0.5
        width, height = round(first.width * scale), round(first.height * scale)
        if index % 2:
            image = first.resize((width, height), Image.Resampling.BICUBIC)
        else:
            image = Image.new("RGB", (width, height))
            for number, (x, y) in enumerate((x, y) for y in range(0, height, 480) for x in range(0, width, 640)):
                image.paste(sources[(index + number) % len(sources)].resize((640, 480)), (x, y))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90, progressive=index % 8 == 6)
        made.append(buffer.getvalue())
    return made


def methods(size: int) -> dict[str, Method]:
    into = (size, size)

    def ours(data: bytes) -> np.ndarray:
        reduced = decode_small(data, least(into, "stretch"))
        return render(
            reduced.image, place(*reduced.size, into, "stretch"), into, reduced.region, reduced=reduced.reduced
        )

    def full(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize(into, Image.Resampling.LANCZOS))

    def draft(data: bytes) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        image.draft("RGB", (2 * size, 2 * size))
        return np.asarray(image.convert("RGB").resize(into, Image.Resampling.LANCZOS, reducing_gap=2.0))

    def opencv(data: bytes) -> np.ndarray:
        width, height = Image.open(io.BytesIO(data)).size
        by = next((n for n in (8, 4, 2) if min(width, height) >= 2 * n * size), 1)
        flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
                 8: cv2.IMREAD_REDUCED_COLOR_8}[by]  # fmt: skip
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        return cv2.cvtColor(cv2.resize(image, into, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)

    found: dict[str, Method] = {
        "augcache": ours,
        "Pillow, full decode, Lanczos": full,
        "Pillow, draft, reducing_gap": draft,
        "OpenCV, reduced, INTER_AREA": opencv,
    }
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        def simple(data: bytes) -> np.ndarray:
            image = simplejpeg.decode_jpeg(data, "RGB", fastdct=True, min_width=2 * size, min_height=2 * size)
            return np.asarray(Image.fromarray(image).resize(into, Image.Resampling.LANCZOS, reducing_gap=2.0))

        found["simplejpeg, scaled, Lanczos"] = simple
    if importlib.util.find_spec("pyvips"):
        import pyvips

        def vips(data: bytes) -> np.ndarray:
            return pyvips.Image.thumbnail_buffer(data, size, height=size, size="force").numpy()

        found["libvips, thumbnail"] = vips
    if importlib.util.find_spec("img2dataset"):
        from img2dataset.resizer import Resizer

        resizer = Resizer(size, "center_crop", False, encode_format="png", encode_quality=1)

        def img2dataset(data: bytes) -> np.ndarray:
            encoded = resizer(io.BytesIO(data))[0]
            return cv2.cvtColor(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)

        found["img2dataset, resizer (crops)"] = img2dataset
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--count", type=int, default=8, help="photographs of each size")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    all_methods = methods(options.size)
    for what, module in (("Pillow", "PIL"), ("OpenCV", "cv2"), ("numpy", "numpy")):
        print(f"{what} {sys.modules[module].__version__}", end="; ")
    print(f"copies of {options.size} x {options.size}\n")
    print(
        "| ms a photograph of | "
        + " | ".join(f"{m:g} Mpx" for m in MEGAPIXELS)
        + " | all / augcache | PSNR median | worst |"
    )
    print("|---" * (len(MEGAPIXELS) + 4) + "|")
    times: dict[str, list[float]] = {name: [] for name in all_methods}
    quality: dict[str, list[float]] = {name: [] for name in all_methods}
    for megapixels in MEGAPIXELS:
        images = photographs(options.data, megapixels, options.count)
        wholes = [all_methods["Pillow, full decode, Lanczos"](image) for image in images]
        spent: dict[str, list[list[float]]] = {name: [[] for _ in images] for name in all_methods}
        for turn in range(options.rounds + 1):
            for number, image in enumerate(images):
                for name, method in all_methods.items():
                    started = time.process_time()
                    copy = method(image)
                    if turn:  # the first warms up
                        spent[name][number].append(time.process_time() - started)
                    else:
                        quality[name].append(psnr(wholes[number], copy))
        for name, each in spent.items():
            times[name].append(statistics.mean(statistics.median(turns) for turns in each) * 1e3)
    for name, row in times.items():
        ratio = statistics.geometric_mean(t / o for t, o in zip(row, times["augcache"], strict=True))
        cells = " | ".join(f"{each:.2f}" for each in row)
        # One that cuts images to another part cannot be compared with the whole.
        decibels = "- | -" if "crops" in name else f"{statistics.median(quality[name]):.1f} | {min(quality[name]):.1f}"
        print(f"| {name} | {cells} | {ratio:.2f} | {decibels} |")


if __name__ == "__main__":
    main()

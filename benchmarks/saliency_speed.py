"""Speed of the saliency stages, exact and fast, beside plain OpenCV and the authors' C++.

    python benchmarks/saliency_speed.py [DATA] [--limit N] [--repeats R]

DATA (default ../shared/data) has ``saliency/`` (images) and ``reference/`` (recorded times of the C++ program of
Cheng et al.). One thread; CPU time; the stages of one image are timed in turn and the median of the repeats is
taken. The unit of comparison is the yardstick, one cv2 graph segmentation of the same image, timed in the same turn;
the recorded times are given in the yardsticks of the machine that they were taken on.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from augcache.transforms.saliencycut import saliency_map
from augcache.transforms.saliencycut.contrast import region_contrast
from augcache.transforms.saliencycut.cut import saliency_cut
from augcache.transforms.saliencycut.histogram import histogram_contrast
from augcache.transforms.saliencycut.quantise import quantise
from augcache.transforms.saliencycut.segment import segment

SETS = {"pascal_s": "images", "weizmann_horse": "images", "msra1000_nomask": ""}
TAIL = 3.0  # no image may take more than this times the reference's mean for its size


def region_map(image: np.ndarray) -> np.ndarray:
    labels, regions = segment(image)
    return saliency_map({"labels": labels, "region_saliency": region_contrast(labels, regions, quantise(image))})


def plain(image: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """What one writes with cv2 alone: its segmentation, and GrabCut from the thresholded map."""
    cv2.ximgproc.segmentation.createGraphSegmentation(0.5, 50, 200).processImage(image)
    mask = np.where(saliency > 0.9, cv2.GC_FGD, np.where(saliency > 0.3, cv2.GC_PR_FGD, cv2.GC_BGD)).astype(np.uint8)
    if np.any(mask == cv2.GC_BGD) and np.any(mask != cv2.GC_BGD):
        cv2.setRNGSeed(0)
        cv2.grabCut(image, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    return mask


def stages(image: np.ndarray) -> dict[str, Callable[[], object]]:
    bgr = np.ascontiguousarray(image[..., ::-1])
    saliency = region_map(image)
    segmentation = cv2.ximgproc.segmentation.createGraphSegmentation(0.5, 50, 200)
    residual, fine = (
        cv2.saliency.StaticSaliencySpectralResidual_create(),
        cv2.saliency.StaticSaliencyFineGrained_create(),
    )
    return {
        "yardstick": lambda: segmentation.processImage(bgr),
        "HC": lambda: histogram_contrast(quantise(image)),
        "segmentation": lambda: segment(image),
        "RC": lambda: region_map(image),
        "cut, exact": lambda: saliency_cut(image, saliency),
        "cut, fast": lambda: saliency_cut(image, saliency, quality="fast"),
        "RC + cut, exact": lambda: saliency_cut(image, region_map(image)),
        "RC + cut, fast": lambda: saliency_cut(image, region_map(image), quality="fast"),
        "cv2 segmentation + grabCut": lambda: plain(bgr, saliency),
        "cv2 spectral residual": lambda: residual.computeSaliency(bgr),
        "cv2 fine grained": lambda: fine.computeSaliency(bgr),
    }


def measure(image: np.ndarray, repeats: int) -> dict[str, float]:
    """Median CPU milliseconds of each stage."""
    taken: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, call in stages(image).items():
            start = time.process_time()
            call()
            taken.setdefault(name, []).append(1e3 * (time.process_time() - start))
    return {name: float(np.median(times)) for name, times in taken.items()}


def reference(row: dict[str, str]) -> dict[str, float]:
    hc, seg, rc, cut, yardstick = (float(row[f"{name}_ms"]) for name in ("hc", "seg", "rc", "cut", "yardstick"))
    return {
        "HC": hc,
        "segmentation": seg,
        "RC": rc,
        "cut, exact": cut,
        "RC + cut, exact": rc + cut,
        "yardstick": yardstick,
    }


def report(name: str, rows: list[dict[str, str]], taken: list[dict[str, float]]) -> None:
    recorded = [reference(row) for row in rows]
    total = {stage: sum(t[stage] for t in taken) for stage in taken[0]}
    theirs = {stage: sum(r[stage] for r in recorded) for stage in recorded[0]}
    print(f"\n{name}, {len(rows)} images\n")
    print("| stage | ms, mean | yardsticks | slowest, ms | C++: ms, mean | C++: yardsticks | times faster |")
    print("|---|---|---|---|---|---|---|")
    for stage, ms in total.items():
        ratio = ms / total["yardstick"]
        line = f"| {stage} | {ms / len(rows):.1f} | {ratio:.2f} | {max(t[stage] for t in taken):.0f} "
        same = stage.replace("fast", "exact")
        if same in theirs and stage != "yardstick":
            their = theirs[same] / theirs["yardstick"]
            line += f"| {theirs[same] / len(rows):.1f} | {their:.2f} | {their / ratio:.1f} |"
        else:
            line += "| | | |"
        print(line)
    # The reference's mean for an image's size: its mean cost in yardsticks, times the image's own yardstick.
    mean = theirs["RC + cut, exact"] / theirs["yardstick"]
    worst = max(range(len(rows)), key=lambda i: taken[i]["RC + cut, exact"] / taken[i]["yardstick"])
    share = taken[worst]["RC + cut, exact"] / taken[worst]["yardstick"] / mean
    print(
        f"\nSlowest for its size: {rows[worst]['image']}, RC + cut {taken[worst]['RC + cut, exact']:.0f} ms, "
        f"{share:.2f} times the reference's mean ({'within' if share <= TAIL else 'BEYOND'} the limit of {TAIL:g})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--limit", type=int, help="images of each set")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{platform.machine()}, {time.strftime('%Y-%m-%d')}, OpenCV {cv2.__version__}, one thread")
    warm = True
    for name, folder in SETS.items():
        with (options.data / "reference" / f"{name}.csv").open() as lines:
            rows = list(csv.DictReader(lines))[: options.limit]
        taken = []
        for row in rows:
            bgr = cv2.imread(str(options.data / "saliency" / name / folder / row["image"]))
            image = np.ascontiguousarray(bgr[..., ::-1])
            if warm:  # compiling is not part of the work
                measure(image, 1)
                warm = False
            taken.append(measure(image, options.repeats))
        report(name, rows, taken)


if __name__ == "__main__":
    main()

"""Quality of the saliency maps and cuts: against masks drawn by people, and against the authors' own output.

    python benchmarks/saliency_quality.py [DATA] [--limit N] [--no-cut] [--quality exact fast]

DATA (default ../shared/data) has ``saliency/`` (images and masks) and ``reference/`` (the output of the C++
program of Cheng et al.). Precision and recall are means over a dataset, F has beta^2 = 0.3, a mask is what is
above 127; max-F is over all thresholds of the map, MAE the mean absolute error of the map.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from augcache.transforms.saliencycut import METHODS, saliency_map, saliencycut

WITH_MASKS = ("pascal_s", "weizmann_horse")
SETS = (*WITH_MASKS, "msra1000_nomask")
BETA2 = 0.3


@dataclass(frozen=True)
class Image:
    """One image, its mask (None where nobody drew one) and the stem of the reference's outputs."""

    image: np.ndarray
    mask: np.ndarray | None
    reference: Path
    regions: int

    def expected(self, kind: str) -> np.ndarray:
        return np.asarray(cv2.imread(f"{self.reference}_{kind}.png", cv2.IMREAD_UNCHANGED))


def images(data: Path, name: str, limit: int | None) -> Iterator[Image]:
    folder = data / "saliency" / name
    with (data / "reference" / f"{name}.csv").open() as lines:
        rows = list(csv.DictReader(lines))[:limit]
    for row in rows:
        path = (folder / "images" if name in WITH_MASKS else folder) / row["image"]
        mask = None
        if name in WITH_MASKS:
            mask = np.asarray(cv2.imread(str(folder / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)) > 127
        image = np.ascontiguousarray(np.asarray(cv2.imread(str(path)))[..., ::-1])
        yield Image(image, mask, data / "reference" / name / path.stem, int(row["regions"]))


def precision_recall(found: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    hit = int((found & mask).sum())
    return hit / max(1, int(found.sum())), hit / max(1, int(mask.sum()))


def f_measure(precision: float, recall: float) -> float:
    return (1 + BETA2) * precision * recall / max(BETA2 * precision + recall, 1e-12)


def curve(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Precision and recall, (2, 255), at each threshold of an 8-bit map."""
    levels = np.rint(values * 255).astype(np.uint8)
    found = np.cumsum(np.bincount(levels.ravel(), minlength=256)[::-1])[::-1][1:]
    hit = np.cumsum(np.bincount(levels[mask], minlength=256)[::-1])[::-1][1:]
    return np.stack([hit / np.maximum(found, 1), hit / max(mask.sum(), 1)])


def max_f(curves: list[np.ndarray]) -> float:
    return max(f_measure(p, r) for p, r in np.mean(curves, axis=0).T)


MapOf = Callable[[Image], np.ndarray]


def map_row(label: str, items: list[Image], map_of: MapOf) -> str:
    curves, errors = [], []
    for item in items:
        assert item.mask is not None
        values = map_of(item)
        curves.append(curve(values, item.mask))
        errors.append(float(np.abs(values - item.mask).mean()))
    return f"| {label} | | | | {max_f(curves):.3f} | {np.mean(errors):.3f} |"


def cut_row(label: str, items: list[Image], cut_of: MapOf) -> str:
    found = [precision_recall(cut_of(item), item.mask) for item in items if item.mask is not None]
    precision, recall = np.mean(found, axis=0)
    return f"| {label} | {precision:.3f} | {recall:.3f} | {f_measure(precision, recall):.3f} | | |"


def map_only(image: np.ndarray, method: str) -> np.ndarray:
    from augcache.transforms.saliencycut.compute import REGION_SALIENCY
    from augcache.transforms.saliencycut.segment import segment

    labels, regions = segment(image)
    return saliency_map({"labels": labels, "region_saliency": REGION_SALIENCY[method](image, labels, regions)})


def pixel_hc(item: Image) -> np.ndarray:
    from augcache.transforms.saliencycut.histogram import histogram_contrast
    from augcache.transforms.saliencycut.quantise import quantise

    return histogram_contrast(quantise(item.image))


def accuracy(items: list[Image], qualities: list[str], with_cut: bool) -> None:
    """Print one table against the masks."""
    print("| result | P | R | F | max-F | MAE |\n|---|---|---|---|---|---|")
    print(map_row("reference HC map", items, lambda item: item.expected("hc") / 255))
    print(map_row("reference RC map", items, lambda item: item.expected("rc") / 255))
    print(map_row("HC map, per pixel", items, pixel_hc))
    for method in METHODS:
        print(map_row(f"{method} map", items, map_by(method)))
    print(cut_row("reference cut", items, lambda item: item.expected("cut") > 127))
    for method in METHODS if with_cut else ():
        for quality in qualities:
            print(cut_row(f"{method} cut, {quality}", items, cut_by(method, quality)), flush=True)


def map_by(method: str) -> MapOf:
    return lambda item: map_only(item.image, method)


def cut_by(method: str, quality: str) -> MapOf:
    return lambda item: saliencycut(item.image, method=method, quality=quality)["cut"]


def agreement(items: list[Image], qualities: list[str], with_cut: bool) -> None:
    """Print how far our output is from the reference's own."""
    rc, hc, regions, same = [], [], 0, 0
    overlap: dict[str, list[float]] = {quality: [] for quality in qualities}
    from augcache.transforms.saliencycut.segment import segment

    for item in items:
        labels, count = segment(item.image)
        regions += count == item.regions
        same += bool(np.array_equal(labels, item.expected("seg")))
        rc.append(np.abs(map_only(item.image, "rc") - item.expected("rc") / 255).mean())
        hc.append(np.abs(pixel_hc(item) - item.expected("hc") / 255).mean())
        for quality in qualities if with_cut else []:
            cut, expected = saliencycut(item.image, quality=quality)["cut"], item.expected("cut") > 127
            union = np.count_nonzero(cut | expected)
            overlap[quality].append(np.count_nonzero(cut & expected) / union if union else 1.0)
    print("| agreement with the reference | |\n|---|---|")
    print(f"| images | {len(items)} |")
    print(f"| equal number of regions | {regions} |")
    print(f"| equal label in every pixel | {same} |")
    print(f"| RC map, mean absolute difference: mean, greatest | {np.mean(rc):.5f}, {np.max(rc):.5f} |")
    print(f"| HC map, mean absolute difference: mean, greatest | {np.mean(hc):.5f}, {np.max(hc):.5f} |")
    for quality, values in overlap.items():
        if values:
            low, tenth, half = np.percentile(values, [0, 10, 50])
            share = np.mean(np.array(values) >= 0.98)
            print(
                f"| {quality} cut, IoU: median, 10th percentile, least, share >= 0.98 "
                f"| {half:.4f}, {tenth:.4f}, {low:.3f}, {share:.1%} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--limit", type=int, help="only the first N images of each set")
    parser.add_argument("--no-cut", action="store_true", help="maps only: seconds instead of minutes")
    parser.add_argument("--quality", nargs="+", default=["exact", "fast"], choices=["exact", "fast"])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    everything = []
    for name in SETS:
        items = list(images(options.data, name, options.limit))
        everything += items
        if name in WITH_MASKS:
            print(f"\n### {name}, {len(items)} images\n")
            accuracy(items, options.quality, not options.no_cut)
    print("\n### All sets\n")
    agreement(everything, options.quality, not options.no_cut)


if __name__ == "__main__":
    main()

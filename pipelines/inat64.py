"""iNaturalist's animals at 64x64: the download, once through a store, to a loader.

    python pipelines/inat64.py [FOLDER] [--annotations train.json]

FOLDER is where the download was unpacked: the annotation file, and beside it the folder that its paths start with
(``train_val2017/`` for 2017, ``train/`` for 2021). Plants, fungi and the rest are left out. The store is written
beside FOLDER; run again, nothing is decoded, and the photographs may be deleted. Without FOLDER, a data set of the
same form is made of the sample pictures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from augcache import CachedImages, Recipe
from augcache.resize import resize
from augcache.sources import open_source
from augcache.sources.json_stream import members
from augcache.store import store_path

SAMPLES = Path(__file__).parents[1] / "samples"
# 2017 names groups of mixed rank; 2021 names the kingdom.
ANIMALS_2017 = {
    *("Actinopterygii", "Amphibia", "Animalia", "Arachnida", "Aves"),
    *("Insecta", "Mammalia", "Mollusca", "Reptilia"),
}


def animals(annotations: Path) -> str:
    """Return the rule that keeps the animals of an annotation file of either form."""
    categories = [element for key, element in members(annotations) if key == "categories"]
    if any("kingdom" in category for category in categories):
        return "kingdom=Animalia"
    return "supercategory=" + ",".join(sorted(ANIMALS_2017 & {each["supercategory"] for each in categories}))


def make_store(folder: Path, annotations: Path, workers: int | None = None) -> Path:
    """Store 64x64 copies of all animals that the store does not have yet."""
    pictures = open_source(folder, annotations=annotations, keep=[animals(annotations)])
    store = store_path(folder)
    print(resize(pictures, Recipe("resize", width=64, height=64), store, workers=workers))
    return store


def make_loader(store: Path, batch: int = 256, workers: int = 2) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of uint8 (batch, 3, 64, 64) and class numbers; crops and jitter are for the device, a batch at a time."""
    data = CachedImages(store, output="tensor")
    return DataLoader(data, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def make_sample(folder: Path) -> Path:
    """Make a data set of the 2021 form: the cat is an animal, the roofs are not."""
    files = sorted(SAMPLES.rglob("*.jpg"))
    animal = [path.stem in ("chelsea", "astronaut") for path in files]
    content = {
        "images": [{"id": n, "file_name": f"train/{path.relative_to(SAMPLES)}"} for n, path in enumerate(files)],
        "annotations": [{"id": n, "image_id": n, "category_id": n} for n in range(len(files))],
        "categories": [
            {"id": n, "name": path.stem, "kingdom": "Animalia" if animal[n] else "Plantae"}
            for n, path in enumerate(files)
        ],
    }
    folder.mkdir()
    (folder / "train").symlink_to(SAMPLES)
    (folder / "train.json").write_text(json.dumps(content))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--annotations", type=Path, help="default: FOLDER/train.json, else FOLDER/train2017.json")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or make_sample(Path(scratch) / "inat")
        names = ("train.json", "train2017.json")
        found = [folder / name for name in names if (folder / name).exists()]
        annotations = arguments.annotations or (found[0] if found else folder / names[0])
        loader = make_loader(make_store(folder, annotations), arguments.batch, arguments.workers)
        started, count = time.perf_counter(), 0
        for images, _ in loader:
            count += len(images)
        print(loader.dataset, images.dtype, tuple(images.shape))
        print(f"an epoch of {count} pictures in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()

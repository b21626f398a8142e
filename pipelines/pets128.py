"""Oxford-IIIT Pets at 128x128 with trimaps as three one-hot layers: the download, once through a store, to loaders.

    python pipelines/pets128.py [FOLDER]

FOLDER is where ``images.tar.gz`` and ``annotations.tar.gz`` were unpacked: ``images/*.jpg``,
``annotations/trimaps/*.png``, ``annotations/trainval.txt`` and ``test.txt``. The stores are written beside FOLDER.
Without FOLDER, a data set of the same form is made of the sample pictures, with ovals as trimaps.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from augcache import CachedImages, Recipe
from augcache.resize import resize
from augcache.sources import ListFile, Masked

SAMPLES = Path(__file__).parents[1] / "samples"
RECIPE = Recipe("resize", width=128, height=128, masks=True)


def make_store(folder: Path, split: str, workers: int | None = None) -> Path:
    """Store 128x128 copies, pictures and trimaps, of one split."""
    lines = (folder / "annotations" / f"{split}.txt").read_text().split("\n")
    names = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as file:
        # The breed is the name of the file up to the number.
        csv.writer(file).writerows([f"{name}.jpg", name.rpartition("_")[0]] for name in names)
        file.flush()
        pictures = Masked(ListFile(file.name, folder / "images"), folder / "annotations" / "trimaps")
        store = folder.with_name(f"{folder.name}-{split}.augcache")
        print(resize(pictures, RECIPE, store, workers=workers))
    return store


def one_hot(trimap: torch.Tensor) -> torch.Tensor:
    """Layers of pet, background and border: uint8 (B, H, W) of 1, 2 and 3 to float32 (B, 3, H, W)."""
    return torch.stack([trimap == value for value in (1, 2, 3)], dim=1).float()


def collate(items: list[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch of pictures uint8 (B, 3, H, W), trimaps float32 (B, 3, H, W), and breeds (B,)."""
    images, (breeds, trimaps) = default_collate(items)
    return images, one_hot(trimaps), breeds


def make_loader(store: Path, batch: int = 64, workers: int = 2, *, shuffle: bool = True) -> DataLoader[Any]:
    """Open a store that `make_store` made."""
    data = CachedImages(store, RECIPE, output="tensor", target="both")
    return DataLoader(data, batch, shuffle=shuffle, num_workers=workers, collate_fn=collate)


def make_sample(folder: Path) -> Path:
    """Make a data set of the same form."""
    import numpy as np
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    names = []
    for index, path in enumerate(sorted(SAMPLES.rglob("*.jpg"))):
        names.append(f"{path.parent.name}_{index}")
        (folder / "images" / f"{names[-1]}.jpg").symlink_to(path)
        width, height = Image.open(path).size
        y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        trimap = np.digitize(np.hypot(x, y), [0.6, 0.65])
        trimap = np.array([1, 3, 2], np.uint8)[trimap]
        Image.fromarray(trimap).save(folder / "annotations" / "trimaps" / f"{names[-1]}.png")
    for split, part in (("trainval", names[::2]), ("test", names[1::2])):
        (folder / "annotations" / f"{split}.txt").write_text("".join(f"{name} 1 1 1\n" for name in part))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or make_sample(Path(scratch) / "pets")
        for split in ("trainval", "test"):
            loader = make_loader(make_store(folder, split), arguments.batch, arguments.workers)
            images, trimaps, breeds = next(iter(loader))
            print(split, loader.dataset, tuple(images.shape), tuple(trimaps.shape), tuple(breeds.shape))
            print("share of pet, background, border:", trimaps.mean((0, 2, 3)).tolist())


if __name__ == "__main__":
    main()

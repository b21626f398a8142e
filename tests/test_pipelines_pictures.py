import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PIPELINES = Path(__file__).parents[1] / "pipelines"


@pytest.mark.parametrize("name", ["inat64", "pets128"])
def test_pipelines_run_out_of_the_box(name):
    """Without a download, each runs on the sample pictures, from files to batches."""
    out = subprocess.run([sys.executable, PIPELINES / f"{name}.py"], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert "CachedImages" in out.stdout


def test_animals_of_both_forms(samples, tmp_path):
    """Plants are left out, in the 2017 form and the 2021 form alike; classes are species."""
    inat = runpy.run_path(str(PIPELINES / "inat64.py"))
    folder = inat["make_sample"](tmp_path / "inat")
    loader = inat["make_loader"](inat["make_store"](folder, folder / "train.json", workers=0), workers=0)
    content = json.loads((folder / "train.json").read_text())
    for category in content["categories"]:
        category["supercategory"] = {"Animalia": "Mammalia"}.get(category.pop("kingdom"), "Plantae")
    (folder / "train2017.json").write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "inat.augcache")
    again = inat["make_loader"](inat["make_store"](folder, folder / "train2017.json", workers=0), workers=0)
    assert loader.dataset.classes == again.dataset.classes == ["astronaut", "chelsea"]
    [(images, labels)] = loader
    assert (images.shape, images.dtype, sorted(labels.tolist())) == ((2, 3, 64, 64), torch.uint8, [0, 1])


def test_one_hot_trimaps(tmp_path):
    """Pictures and three layers of 128x128, each pixel in one layer, with the two splits apart."""
    pets = runpy.run_path(str(PIPELINES / "pets128.py"))
    folder = pets["make_sample"](tmp_path / "pets")
    stores = [pets["make_store"](folder, split, workers=0) for split in ("trainval", "test")]
    names = []
    for store in stores:
        loader = pets["make_loader"](store, workers=0, shuffle=False)
        images, trimaps, breeds = next(iter(loader))
        assert (images.shape[1:], images.dtype) == ((3, 128, 128), torch.uint8)
        assert trimaps.shape == images.shape
        assert torch.equal(trimaps.sum(1), torch.ones(len(images), 128, 128))
        assert trimaps[:, 0, 64, 64].all()  # the middle is pet
        assert trimaps[:, 1, 0, 0].all()  # the corner is background
        assert [loader.dataset.classes[breed] for breed in breeds] == [
            name.rpartition("_")[0] for name in loader.dataset.names
        ]
        names.append(set(loader.dataset.names))
    assert len(names[0] | names[1]) == 12
    assert not names[0] & names[1]

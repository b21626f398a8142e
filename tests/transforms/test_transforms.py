"""Every transform of the package keeps the contract, and its output does not change behind its version."""

import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import video_variants
import xxhash
from PIL import Image

import augcache.transforms
from augcache import Recipe
from augcache.testing import check_transform

NAMES = [
    module.name for module in pkgutil.iter_modules(augcache.transforms.__path__) if not module.name.startswith("_")
]
IMAGES = [name for name in NAMES if Recipe(name).kind != "frame"]  # those that take one image
GOLDEN = Path(__file__).parent / "golden.json"


def small_samples(samples):
    for path in sorted(samples.rglob("*.jpg")):
        image = Image.open(path).convert("RGB")
        image.thumbnail((160, 160))
        yield path.relative_to(samples).as_posix(), np.asarray(image)


@pytest.mark.parametrize("name", IMAGES)
def test_contract(name, samples):
    """Pure, deterministic, storable, and no crash on any image; found by its name."""
    assert hasattr(importlib.import_module(f"augcache.transforms.{name}"), name)
    check_transform(Recipe(name), *[image for _, image in small_samples(samples)][:3])


def digest(record) -> str:
    hasher = xxhash.xxh3_64()
    for name in sorted(record):
        array = record[name]
        if array.dtype.kind == "f":
            # The last bits of a float may differ between processors; what is kept of it must not.
            array = np.round(array, 2) + 0.0
        hasher.update(f"{name}{array.dtype}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).tobytes() if array.dtype.kind != "U" else str(array).encode())
    return hasher.hexdigest()


def inputs(name, samples, folder):
    """Name and input of each golden digest: sample images, or a lossless video."""
    if name in IMAGES:
        return small_samples(samples)
    video_variants.encode(folder / "video.mkv", "ffv1", pix_fmt="bgr0", length=6)
    return [("video.mkv", folder / "video.mkv")]


@pytest.mark.parametrize("name", NAMES)
def test_output_changes_only_with_the_version(name, samples, tmp_path, pytestconfig):
    """The same version gives the same output as ever; a store built with it stays true."""
    recipe = Recipe(name)
    compute, found = recipe.bind(), {}
    for path, given in inputs(name, samples, tmp_path):
        made = compute(given)
        for index, record in enumerate(made if recipe.kind == "frame" else [made]):
            found[f"{path}#{index}" if recipe.kind == "frame" else path] = digest(record)
    known = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    key = f"{name} version {recipe.version} {recipe.params_json}"
    if pytestconfig.getoption("write_golden"):
        known[key] = found
        GOLDEN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
        pytest.skip("written")
    assert key in known, "a new transform, version or default: run `make golden`"
    assert found == known[key], "the output changed: raise the version, then run `make golden`"

"""Saliency maps: agreement with the authors' program, records that rebuild their map, and images of every size."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from augcache import Recipe
from augcache.errors import RecipeError, SourceError
from augcache.transforms.saliencycut import METHODS, saliency_map, saliencycut

DATA = Path(__file__).parents[3] / "shared" / "data"
SETS = {"pascal_s": "pascal_s/images", "weizmann_horse": "weizmann_horse/images", "msra1000_nomask": "msra1000_nomask"}


def reference_images(per_set: int) -> list[tuple[Path, Path, int]]:
    """(image, stem of the reference's outputs, its number of regions), spread evenly over each set."""
    found = []
    for name, folder in SETS.items():
        table = DATA / "reference" / f"{name}.csv"
        if not table.exists():
            pytest.skip(f"the reference maps are not at {table}")
        with table.open() as lines:
            rows = list(csv.DictReader(lines))
        for row in rows[:: max(1, len(rows) // per_set)][:per_set]:
            stem = DATA / "reference" / name / Path(row["image"]).stem
            found.append((DATA / "saliency" / folder / row["image"], stem, int(row["regions"])))
    return found


def read_rgb(path: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])


def disc(height: int = 120, width: int = 160, radius: int = 30) -> np.ndarray:
    """A red disc on a green and blue ground with a little texture, always the same."""
    y, x = np.mgrid[:height, :width]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = 40 + (x * 7 + y * 3) % 12
    image[..., 1] = 120 + y * 60 // height
    image[..., 2] = 150 - x * 60 // width
    image[(y - height // 2) ** 2 + (x - width // 2) ** 2 < radius**2] = 220, 40, 30
    return image


def test_regions_and_rc_map_equal_the_reference() -> None:
    """Exact mode gives the authors' partition, pixel for pixel, and their map to its 8-bit rounding."""
    from augcache.transforms.saliencycut.compute import REGION_SALIENCY
    from augcache.transforms.saliencycut.segment import segment

    for path, stem, regions in reference_images(4):
        image = read_rgb(path)
        labels, found = segment(image)
        assert found == regions, path.name
        assert np.array_equal(labels, cv2.imread(f"{stem}_seg.png", cv2.IMREAD_UNCHANGED)), path.name
        values = saliency_map({"labels": labels, "region_saliency": REGION_SALIENCY["rc"](image, labels, regions)})
        expected = cv2.imread(f"{stem}_rc.png", cv2.IMREAD_GRAYSCALE)
        assert np.abs(values - expected / 255).mean() < 1e-3, path.name


def test_hc_map_equals_the_reference() -> None:
    """The per-pixel histogram contrast is the authors' to 8-bit rounding."""
    from augcache.transforms.saliencycut.histogram import histogram_contrast
    from augcache.transforms.saliencycut.quantise import quantise

    for path, stem, _ in reference_images(4):
        expected = cv2.imread(f"{stem}_hc.png", cv2.IMREAD_GRAYSCALE)
        assert np.abs(np.rint(histogram_contrast(quantise(read_rgb(path))) * 255) - expected).mean() < 0.02, path.name


@pytest.mark.parametrize("method", METHODS)
def test_the_odd_one_out_is_salient(method: str) -> None:
    """A disc of another colour in the middle is the salient region under every method."""
    record = saliencycut(disc(), method=method)
    values = saliency_map(record)
    centre, ground = values[60, 80], values[10:20].mean()
    assert str(record["status"]) == "ok"
    assert centre > 0.8
    assert centre > ground + 0.5


def test_record_has_the_promised_types() -> None:
    """Types, shapes and ranges are those that the docstring states."""
    image = disc()
    record = saliencycut(image)
    regions = len(record["palette"])
    assert record["labels"].dtype == np.uint8
    assert record["labels"].shape == image.shape[:2]
    assert set(np.unique(record["labels"])) == set(range(regions))
    assert record["palette"].dtype == np.uint8
    assert record["palette"].shape == (regions, 3)
    assert record["region_saliency"].dtype == np.float32
    assert record["region_saliency"].shape == (regions,)
    assert record["region_saliency"].min() >= 0
    assert record["region_saliency"].max() <= 1
    assert record["cut"].dtype == np.bool_
    assert record["cut"].shape == image.shape[:2]
    for region in range(regions):
        mean = image[record["labels"] == region].mean(axis=0)
        assert np.abs(mean - record["palette"][region]).max() <= 0.5


def test_many_regions_need_wide_labels() -> None:
    """More than 256 regions are kept apart, in uint16."""
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (20, 20, 3), np.uint8), np.ones((20, 20, 1), np.uint8))
    record = saliencycut(image)
    assert record["labels"].dtype == np.uint16
    assert len(record["palette"]) > 256
    assert record["labels"].max() == len(record["palette"]) - 1


SHAPES = [(1, 1), (1, 2), (2, 2), (3, 5), (1, 700), (700, 1), (8, 8), (32, 32), (31, 64), (127, 129), (130, 131)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_size_gives_a_record(shape: tuple[int, int], method: str) -> None:
    """Noise of any size gives a finite map in 0..1 of its own size, and no error."""
    image = np.random.default_rng(shape[0] * 1000 + shape[1]).integers(0, 256, (*shape, 3), np.uint8)
    record = saliencycut(image, method=method)
    values = saliency_map(record)
    assert values.shape == record["cut"].shape == record["labels"].shape == shape
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert values.max() <= 1 + 1e-6
    assert str(record["status"]) in ("ok", "no-salient-region")
    assert record["labels"].max() == len(record["palette"]) - 1


def nothing_salient() -> dict[str, np.ndarray]:
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[np.newaxis, :, np.newaxis], 150, axis=0).repeat(3, axis=2)
    return {
        "black": np.zeros((150, 200, 3), np.uint8),
        "white": np.full((20, 30, 3), 255, np.uint8),
        "pixel": np.full((1, 1, 3), 7, np.uint8),
        "ramp": ramp,
    }


@pytest.mark.parametrize("name", nothing_salient())
def test_nothing_salient_is_an_answer(name: str) -> None:
    """A flat or evenly shaded image has the status of its own, an empty map and an empty cut."""
    record = saliencycut(nothing_salient()[name])
    assert str(record["status"]) == "no-salient-region"
    assert not saliency_map(record).any()
    assert not record["cut"].any()


def test_cifar_images_are_usable() -> None:
    """At default settings 95 % of 32 x 32 photographs get a map, several regions and a cut."""
    batch = DATA / "cifar10" / "data_batch_1.bin"
    if not batch.exists():
        pytest.skip(f"CIFAR-10 is not at {batch}")
    raw = np.fromfile(batch, np.uint8, 40 * 3073).reshape(-1, 3073)[:, 1:]
    usable = 0
    for image in raw.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1):
        record = saliencycut(np.ascontiguousarray(image))
        usable += bool(str(record["status"]) == "ok" and saliency_map(record).any() and len(record["palette"]) > 1)
    assert usable >= 38


def test_memory_layout_is_no_part_of_the_input() -> None:
    """A strided or reversed view gives the record of its copy."""
    view = disc(240, 320)[::2, ::-2]
    first, second = saliencycut(view), saliencycut(np.ascontiguousarray(view))
    assert all(np.array_equal(first[name], second[name]) for name in second)


@pytest.mark.parametrize("method", METHODS)
def test_threads_change_no_byte(method: str) -> None:
    """The record is the same on any number of OpenCV threads."""
    before = cv2.getNumThreads()
    records = []
    try:
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            records.append(saliencycut(disc(), method=method))
    finally:
        cv2.setNumThreads(before)
    assert all(records[0][name].tobytes() == records[1][name].tobytes() for name in records[0])


def test_scale_works_on_a_resized_image() -> None:
    """Results keep the image's size; more pixels to work on leave room for more regions."""
    image = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    image = cv2.resize(image, (160, 120), interpolation=cv2.INTER_NEAREST)
    small, large = saliencycut(image, scale=0.5), saliencycut(image, scale=2)
    assert small["labels"].shape == large["labels"].shape == (120, 160)
    assert len(small["palette"]) < len(large["palette"])


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_arrays_are_refused(bad: np.ndarray) -> None:
    """What is no RGB image is refused in one line."""
    with pytest.raises(SourceError) as caught:
        saliencycut(bad)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "params", [{"method": "nope"}, {"quality": "best"}, {"scale": -1}, {"scale": 99}, {"scale": "2"}]
)
def test_bad_parameters_stop_before_the_first_image(params: dict[str, object]) -> None:
    """A recipe with a value out of range cannot be made."""
    with pytest.raises(RecipeError):
        Recipe("saliencycut", **params)


def test_reading_records_loads_no_compiler() -> None:
    """To import the transform and render a map takes neither numba nor torch."""
    code = (
        "import sys, numpy as np\n"
        "from augcache.transforms.saliencycut import saliency_map, saliencycut\n"
        "assert 'cv2' not in sys.modules\n"
        "saliency_map({'labels': np.zeros((200, 200), np.uint8), 'region_saliency': np.ones(1, np.float32)})\n"
        "assert not {'numba', 'torch', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

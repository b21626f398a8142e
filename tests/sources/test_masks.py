"""Masks of images that EXIF turns, and pairs of which one file changes."""

import itertools
import os

import numpy as np
import pytest
from PIL import Image, ImageOps

from augcache import CachedImages, Recipe, Store
from augcache.building.build import resize
from augcache.errors import RecipeError
from augcache.sources import Masked, open_source

ORIENTATION = 0x0112
SIZES = {False: (40, 30), True: (32, 32)}


def image_of(labels):
    return np.stack([labels * 80] * 3, 2)


def some_labels(size):
    """Four corners and a bar, so that every turn and flip shows."""
    labels = np.zeros(size[::-1], np.uint8)
    labels[: size[1] // 2, : size[0] // 2], labels[size[1] // 2 :, : size[0] // 4] = 1, 2
    labels[-8:, -8:] = 3
    return labels


def tagged(turn):
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    return exif


def write_pair(root, name, turn, mask, square=False, suffix="png"):
    """Write an image with an orientation, and a mask "stored", "shown", or "tagged" with an orientation of its own."""
    labels = some_labels(SIZES[square])
    (root / "p").mkdir(exist_ok=True, parents=True)
    (root / "m").mkdir(exist_ok=True)
    Image.fromarray(image_of(labels)).save(root / f"p/{name}.{suffix}", exif=tagged(turn))
    plain = Image.fromarray(labels)
    if mask == "shown":
        plain.info["exif"] = tagged(turn).tobytes()
        plain = ImageOps.exif_transpose(turned_by(plain, turn))
    plain.save(root / f"m/{name}.png", **({"exif": tagged(turn)} if mask == "tagged" else {}))


def turned_by(image, turn):
    image.getexif()[ORIENTATION] = turn
    return image


def run(root, masks=True, size=24):
    """Resize, and return the failures' reasons; every copy that was made must lie as its mask does."""
    recipe = Recipe("resize", width=size, height=size, masks=masks)
    report = resize(open_source(root / "p", masks=root / "m"), recipe, root / "s.augcache", workers=0)
    if report.computed or report.reused:
        data = CachedImages(root / "s.augcache", recipe, target="mask", output="array")
        for name, (image, mask) in zip(data.names, data, strict=True):
            away = np.abs(image[..., 0].astype(int) - mask.astype(int) * 80)
            assert np.mean(away < 40) > 0.93, name
    return {failure.name: failure.reason for failure in Store(root / "s.augcache").failures(recipe)}


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("mask", ["stored", "shown"])
@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_the_size_of_a_mask_tells_what_it_is_of(tmp_path, turn, mask, suffix):
    """Of an image that is no square and lies on its side, a mask fits in one way, and is turned that way."""
    write_pair(tmp_path, "x", turn, mask, suffix=suffix)
    assert run(tmp_path) == {}


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("square", [False, True])
def test_an_orientation_of_the_masks_own_is_respected(tmp_path, turn, square):
    """A mask that asks to be turned is turned as it asks."""
    write_pair(tmp_path, "x", turn, "tagged", square)
    assert run(tmp_path) == {}


UNDECIDED = [(2, False), (3, False), (4, False), *((turn, True) for turn in range(2, 9))]


@pytest.mark.parametrize("mask", ["stored", "shown"])
def test_where_no_size_tells_the_pair_is_refused_until_somebody_says(tmp_path, mask):
    """A flipped image's mask may lie either way: a failure that names the option, which settles it."""
    for turn, square in UNDECIDED:
        write_pair(tmp_path, f"{turn}{square}", turn, mask, square)
    write_pair(tmp_path, "plain", 1, mask)
    reasons = run(tmp_path)
    assert len(reasons) == len(UNDECIDED)
    assert all("give --mask-orientation stored or shown" in reason for reason in reasons.values())
    assert run(tmp_path, masks=mask) == {}


@pytest.mark.parametrize("mask", ["stored", "shown"])
def test_the_other_pairs_tell(tmp_path, mask):
    """What all masks are of whose size shows it, the others are of; where these differ, none is believed."""
    for turn, square in UNDECIDED:
        write_pair(tmp_path, f"{turn}{square}", turn, mask, square)
    assert len(run(tmp_path)) == len(UNDECIDED)
    write_pair(tmp_path, "z6", 6, mask)
    assert run(tmp_path) == {}
    write_pair(tmp_path, "z8", 8, "shown" if mask == "stored" else "stored")
    reasons = run(tmp_path)
    assert len(reasons) == len(UNDECIDED)  # also those that were settled before
    assert all("of others of this source the size shows both" in reason for reason in reasons.values())


def test_a_mask_of_another_size_is_refused(tmp_path):
    """The reason gives the sizes of the image, as shown and as stored."""
    write_pair(tmp_path, "x", 6, "stored")
    Image.new("L", (41, 30)).save(tmp_path / "m/x.png")
    assert run(tmp_path)["x.png"].endswith("is 41 x 30, the image 30 x 40 (stored as 40 x 30)")


def test_copies_of_before_keep_their_recipe():
    """What masks are of is a recipe of its own only where it is said."""
    assert Recipe("resize", masks=True).digest.hex() == "4008cc0f0b51936077dedd0fe627e5df"
    assert len({Recipe("resize", masks=masks).digest for masks in (False, True, "stored", "shown")}) == 4
    with pytest.raises(RecipeError, match="stored or shown"):
        Recipe("resize", masks="turned")


def test_the_command_line_says_it(tmp_path, run_cli):
    """--mask-orientation goes with --masks alone."""
    write_pair(tmp_path, "x", 3, "stored")
    args = ("resize", tmp_path / "p", "--size", "24", "--workers", 0)
    assert run_cli(*args, "--masks", tmp_path / "m").returncode == 4
    out = run_cli(*args, "--masks", tmp_path / "m", "--mask-orientation", "stored")
    assert out.returncode == 0, out.stderr
    assert run_cli(*args, "--mask-orientation", "stored").returncode == 2


@pytest.mark.parametrize(("of_image", "of_mask"), list(itertools.permutations([10**18, 2 * 10**18], 2)))
def test_a_mask_of_the_same_size_and_another_time_is_noticed(tmp_path, of_image, of_mask):
    """Whichever of the two files is older, a mask that another replaced is not reused."""
    write_pair(tmp_path, "x", 1, "stored")
    Image.fromarray(np.full((30, 40), 1, np.uint8)).save(tmp_path / "m/x.bmp")
    (tmp_path / "m/x.png").unlink()
    recipe = Recipe("resize", width=8, height=8, masks=True)

    def build():
        os.utime(tmp_path / "p/x.png", ns=(of_image, of_image))
        source = Masked(open_source(tmp_path / "p"), tmp_path / "m")
        return resize(source, recipe, tmp_path / "s.augcache", workers=0)

    os.utime(tmp_path / "m/x.bmp", ns=(of_mask, of_mask))
    assert build().computed == 1
    assert build().reused == 1
    Image.fromarray(np.full((30, 40), 2, np.uint8)).save(tmp_path / "m/x.bmp")
    os.utime(tmp_path / "m/x.bmp", ns=(of_mask - 1, of_mask - 1))
    assert build().computed == 1
    assert (CachedImages(tmp_path / "s.augcache", target="mask", output="array")[0][1] == 2).all()

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from augcache.errors import SourceError
from augcache.images.decode import as_pixels, decode_views


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_an_ordinary_image_has_one_view():
    """Seen and plain are one array where they do not differ, so it is hashed and computed once."""
    seen, plain = decode_views(encoded(Image.fromarray(PIXELS)))
    assert seen is plain
    assert np.array_equal(seen, PIXELS)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_is_applied_as_a_viewer_does_and_the_plain_pixels_are_kept(orientation):
    """A photograph held sideways is stored upright, and is found by loaders that ignore the orientation too."""
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(PIXELS), exif=exif)
    seen, plain = decode_views(data)
    assert np.array_equal(plain, PIXELS)
    assert np.array_equal(plain, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert not np.array_equal(seen, plain)
    assert seen.shape == ((9, 6, 3) if orientation > 4 else (6, 9, 3))


def test_transparency_is_shown_over_white():
    """What lies hidden under transparent pixels is not what a person sees."""
    rgba = np.dstack([PIXELS, np.zeros((6, 9), np.uint8)])
    seen, plain = decode_views(encoded(Image.fromarray(rgba)))
    assert (seen == 255).all()
    assert np.array_equal(plain, PIXELS)


def test_sixteen_bits_are_scaled_not_clipped():
    """A 16-bit grey image keeps its range: 0 to 0, 65535 to 255, the middle to the middle."""
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    seen, _ = decode_views(encoded(Image.fromarray(values)))
    assert seen[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text file"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
        (b"hello" * 100, "not an image"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:-40], "cannot be decoded"),
    ],
)
def test_what_is_no_image_says_why(data, message):
    """The reason in the list of failures tells a person what to do."""
    with pytest.raises(SourceError, match=message) as caught:
        decode_views(data)
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_decoded():
    """A small file that unpacks to more pixels than the limit costs nothing."""
    with pytest.raises(SourceError, match="300 x 200 pixels; the most is 1000"):
        decode_views(encoded(Image.new("1", (300, 200))), max_pixels=1000)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]), st.data())
def test_damaged_files_give_pixels_or_a_reason(format, data):
    """Any flipped or missing bytes end in an image or in SourceError."""
    raw = bytearray(encoded(Image.fromarray(PIXELS), format))
    for _ in range(3):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        seen, _ = decode_views(bytes(raw[: data.draw(st.integers(0, len(raw)))]), max_pixels=10**6)
        assert seen.dtype == np.uint8
        assert seen.ndim == 3
    except SourceError:
        pass


def test_real_nasty_files(shared_data):
    """Each file that should decode does, and no other."""
    with (shared_data / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("nasty/")]
    rows = [row for row in rows if "bomb_12000" not in row["path"]]  # it decodes, in ten seconds
    wrong = []
    for row in rows:
        try:
            decode_views((shared_data / row["path"]).read_bytes())
            decodes = "yes"
        except SourceError:
            decodes = "no"
        if decodes != row["should_decode"]:
            wrong.append(row["path"])
    assert len(rows) > 100
    assert wrong == []


def test_images_in_memory_become_the_same_pixels():
    """PIL image, array and tensor of one image give one key."""
    import torch

    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for form in (Image.fromarray(PIXELS), PIXELS, tensor):
        assert np.array_equal(as_pixels(form), PIXELS)
    grey = PIXELS[..., 0]
    for form in (Image.fromarray(grey), grey, torch.from_numpy(grey.copy())[None]):
        assert np.array_equal(as_pixels(form), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PIXELS / 255, "float64.*before they are turned into floats"),
        (PIXELS[None], "a batch"),
        (np.zeros((3, 3, 4), np.uint8), "not an image"),
        ("x.jpg", "a str is not an image"),
    ],
)
def test_misuse_is_named(image, message):
    """Floats, batches and file names are told apart in the message."""
    with pytest.raises(SourceError, match=message):
        as_pixels(image)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (256, 256), (1001, 7), (4000, 3000)])
def test_pixels_of_a_pil_image_are_those_of_numpy(size):
    """The quick way out of Pillow gives what np.asarray gives, for images of every size."""
    image = Image.effect_noise(size, 90).convert("RGB")
    assert np.array_equal(as_pixels(image), np.asarray(image))
    assert np.array_equal(as_pixels(image.crop((0, 0, 1, 1))), np.asarray(image)[:1, :1])

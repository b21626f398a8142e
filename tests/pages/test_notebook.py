"""What objects say of themselves at a prompt and in a notebook."""

import re

import numpy as np
from conftest import write_image

from augcache import HashedSaliencyDataset, Recipe, Store, build
from augcache.building.build import resize


def test_reprs_tell_what_matters(images, tmp_path):
    """Store, recipe, report, record and dataset name what they hold; no default repr with an address."""
    recipe = Recipe("toy:toy", shift=5)
    report = build(images, recipe, workers=0)
    store = Store(report.store)
    short = recipe.digest.hex()[:8]
    assert repr(recipe) == f"<Recipe {short} toy:toy version 1: note='x', shift=5>"
    assert repr(store) == f"Store({report.store!r}, 6 entries of toy:toy {short})"
    assert "computed=6" in repr(report)
    assert "labels uint8[20, 24]" in repr(store.get(recipe, next(store.keys(recipe))))
    dataset = HashedSaliencyDataset(images)
    assert "6 items" in repr(dataset)
    assert not re.search(r" at 0x", repr(dataset) + repr(dataset.lookup_transform) + repr(store.info()))


def test_a_record_draws_itself(images, tmp_path):
    """Segments, saliency and cut as images, and a table of every array; of a copy, its image."""
    recipe = Recipe("toy:toy")
    store = Store(build(images, recipe, workers=0).store)
    page = store.get(recipe, next(store.keys(recipe)))._repr_html_()
    assert re.findall(r"<figcaption[^>]*>(\w+)<", page) == ["segments", "saliency", "cut"]
    assert page.count("data:image/webp;base64,") == 3
    assert all(f"<td>{name}</td>" in page for name in ("labels", "palette", "region_saliency", "cut", "status"))
    copies = Recipe("resize", width=16, height=16, stored="webp")
    resize(images, copies, store.path, workers=0)
    assert store.get(copies, next(store.keys(copies)))._repr_html_().count("<img") == 1


def test_a_store_draws_itself_and_escapes_what_it_was_given(tmp_path):
    """A recipe's text cannot put markup into the reader's notebook."""
    write_image(tmp_path / "p/0.png", 0)
    recipe = Recipe("toy:toy", note="<script>alert(1)</script>")
    store = Store(build(tmp_path / "p", recipe, workers=0).store)
    page = store._repr_html_()
    assert recipe.digest.hex()[:8] in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_record_with_odd_arrays_draws_what_it_can(tmp_path):
    """NaN, one value everywhere, three axes and single numbers neither fail nor pass for images."""
    store, recipe = Store(tmp_path / "s.augcache", "w"), Recipe("toy:toy")
    arrays = {"flat": np.zeros((4, 4)), "nan": np.full((4, 4), np.nan), "one": np.array(3), "cube": np.zeros((2, 2, 2))}
    store.put(recipe, b"k" * 16, {**arrays, "<b>": np.eye(3)})
    page = store.get(recipe, b"k" * 16)._repr_html_()
    assert page.count("<img") == 3
    assert "<b>" not in page

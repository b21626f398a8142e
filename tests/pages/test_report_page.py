"""`augcache report`: one page that shows a store, and that nothing in a store can turn against its reader."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from conftest import forged, write_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from video_variants import write_video

from augcache import Recipe, Store, build, content_key
from augcache.building.build import extract_frames, resize
from augcache.errors import CorruptError, StoreError
from augcache.pages.report import write_report
from augcache.storage.manifest import Source, seal
from augcache.storage.runs import runs
from augcache.storage.store import Batch
from augcache.upkeep.merge import merge
from augcache.upkeep.verify import verify

SCRIPT = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sixty images in two classes, and one that cannot be read, whose name is markup."""
    root = tmp_path_factory.mktemp("report") / "images"
    for index in range(60):
        write_image(root / f"{'ab'[index % 2]}/{index:02d}.png", index)
    (root / SCRIPT.replace("/", "&#47;")).write_text("no image")
    return root


@pytest.fixture(scope="module")
def store(folder) -> Store:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1]))
    return Store(build(folder, Recipe("toy:toy"), workers=0).store)


def data(path: Path) -> dict:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(text[1])


def test_totals_and_distributions_are_over_all_records(store, tmp_path):
    """A page that draws 10 of 60 images counts all 60, lists the failure with its reason, and says when and with
    what it was made."""
    page = data(Path(write_report(store, tmp_path / "r.html", count=10)))
    [recipe] = page["recipes"]
    assert (recipe["total"], recipe["shown"], len(page["cards"])) == (60, 10, 10)
    bars = {each["title"]: sum(bar[1] for bar in each["bars"]) for each in recipe["distributions"]}
    assert bars == dict.fromkeys(
        ("Salient area", "Regions per image", "Time per item", "Bytes per record", "Images per class"), 60
    )
    record = store.get(Recipe("toy:toy"), content_key(write_image(tmp_path / "0.png", 0)))
    whole = data(Path(write_report(store, tmp_path / "r.html")))
    [card] = [card for card in whole["cards"] if card["name"] == "a/00.png"]
    assert card["area"] == pytest.approx(float(record["cut"].mean()), abs=1e-4)
    [failure] = page["failures"]
    assert failure["reason"] == "not an image that can be read"
    assert recipe["runs"][0]["computed"] == 60
    assert recipe["versions"]["numpy"] == np.__version__


def test_the_page_is_of_bounded_size(store, tmp_path):
    """A page grows with the images that it draws, by about 10 KB each, and not with the store."""
    small, large = (Path(write_report(store, tmp_path / f"{n}.html", count=n)).stat().st_size for n in (10, 40))
    assert (large - small) / 30 < 12_000
    assert small < 150_000


def test_every_status_is_drawn(tmp_path, images):
    """A rare status has images on the page however few are drawn; a record that is damaged is listed as such."""
    recipe, path = Recipe("toy:toy"), tmp_path / "s.augcache"
    build(images, recipe, path, workers=0)
    store = Store(path, "w")
    record = dict(store.get(recipe, next(store.keys(recipe))))
    store.put(recipe, content_key(np.zeros((1, 1, 3), np.uint8)), {**record, "status": np.array("no-salient-region")})
    page = data(Path(write_report(store, tmp_path / "r.html", count=4)))
    assert {card["status"] for card in page["cards"]} == {"ok", "no-salient-region"}


def test_copies_frames_and_any_other_records(tmp_path, images, folder, run_cli):
    """Stores of copies and frames show their images; other transforms each array that is an image."""
    path = tmp_path / "s.augcache"
    resize(images, Recipe("resize", width=16, height=16), path, workers=0)
    build(path, Recipe("toy:toy"), path, workers=0)
    write_video(tmp_path / "films/a.mp4", frames=8)
    extract_frames(tmp_path / "films", Recipe("frame", every=4), path, workers=0)
    out = run_cli("report", path, "-o", tmp_path / "r.html")
    assert (out.returncode, out.stdout.strip()) == (0, str(tmp_path / "r.html")), out.stderr
    page = data(tmp_path / "r.html")
    assert [recipe["name"] for recipe in page["recipes"]] == ["toy:toy", "resize", "frame"]
    copies = [card for card in page["cards"] if card["recipe"] == 1]
    assert len(copies) == 6
    assert all(card["images"][0][1].startswith("data:image/webp") for card in copies)
    assert all("original" in card for card in page["cards"] if card["recipe"] == 0)
    frames = [card["frame"] for card in page["cards"] if card["recipe"] == 2]
    assert [frame.split(",")[0] for frame in frames] == ["frame 0", "frame 4"]
    out = run_cli("report", tmp_path / "nowhere.augcache")
    assert out.returncode == 1
    assert "no store there" in out.stderr


def test_no_pager_before_there_is_a_page(store, tmp_path):
    """The pager is hidden until the script has filled it."""
    page = Path(write_report(store, tmp_path / "r.html")).read_text()
    assert re.search(r'<div id="pager" hidden>', page)


def test_mistakes_are_said(store, tmp_path):
    """A place that cannot be written, a recipe that is not there and an empty store are one clear line each."""
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(store, tmp_path / "no/such/r.html")
    with pytest.raises(StoreError, match="no recipe 'ffff'"):
        write_report(store, tmp_path / "r.html", recipe="ffff")
    with pytest.raises(StoreError, match="nothing in it yet"):
        write_report(Store(tmp_path / "empty.augcache", "w"), tmp_path / "r.html")


def test_runs_are_noted_and_bounded(tmp_path, images, monkeypatch):
    """A run that computes leaves one note with its pace; one that finds all there leaves none; old ones make room."""
    monkeypatch.setattr("augcache.storage.runs.MOST_ROWS", 3)
    path = tmp_path / "s.augcache"
    for shift in (6, 5, 5, 4, 3):
        build(images, Recipe("toy:toy", shift=shift), path, workers=0)
    notes = runs(Store(path))
    assert [run.recipe for run in notes] == [Recipe("toy:toy", shift=shift).digest.hex() for shift in (5, 4, 3)]
    assert all(sum(count for _, count in run.pace) == run.computed == 6 for run in notes)
    assert all(run.ended == "done" and set(run.times) == {"read", "compute", "write"} for run in notes)


def test_a_merged_store_knows_the_runs_of_its_parts(tmp_path, images):
    """What was built in shares still tells how long its items took."""
    for shift in (5, 6):
        build(images, Recipe("toy:toy", shift=shift), tmp_path / f"{shift}.augcache", workers=0)
    for _ in range(2):
        merge(tmp_path / "all.augcache", [tmp_path / "5.augcache", tmp_path / "6.augcache"])
        assert [run.computed for run in runs(Store(tmp_path / "all.augcache"))] == [6, 6]


def test_a_malformed_note_of_a_run_is_said_and_mended(tmp_path, images):
    """A note that is not what was written stops a report with one line, is listed by verify, and is left behind by a
    merge."""
    path = tmp_path / "s.augcache"
    build(images, Recipe("toy:toy"), path, workers=0)
    store = Store(path, "w")
    [(key, row)] = store.scan(b"meta", b"run")
    for bad in (
        b"",
        row[:-1],
        row[:8] + b"[]",
        seal(b"{}"),
        seal(row[8:].replace(b'"pace": [[', b'"pace": [[9999, 1], [')),
    ):
        store.write(lambda transaction, databases, bad=bad: transaction.put(key, bad, db=databases[b"meta"]))
        with pytest.raises(CorruptError, match="augcache verify"):
            write_report(store, tmp_path / "r.html")
        assert [problem.kind for problem in verify(path).problems] == ["malformed rows"]
    merge(tmp_path / "mended.augcache", [path])
    assert runs(Store(tmp_path / "mended.augcache")) == []
    assert verify(tmp_path / "mended.augcache").problems == []


ARRAYS = arrays(
    st.sampled_from([np.bool_, np.uint8, np.uint16, np.float32]),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
)
NAMES = st.sampled_from(["labels", "palette", "region_saliency", "cut", "status", "image", "encoded", "mask", "<b>"])


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(records=st.lists(st.dictionaries(NAMES, ARRAYS, min_size=1), min_size=30, max_size=30))
def test_any_record_is_shown(records, tmp_path):
    """Whatever a stranger's store holds under the names of saliency and images, the page has a card for it, and a
    notebook shows it or says in one line that it is no legal record."""
    shutil.rmtree(tmp_path / "s.augcache", ignore_errors=True)
    store, recipe = Store(tmp_path / "s.augcache", "w"), Recipe("toy:toy")
    keys = [content_key(np.full((2, 2, 3), number, np.uint8)) for number in range(len(records))]
    rows = [Source(f"{number}.png", key) for number, key in enumerate(keys)]
    store.commit(recipe, Batch(dict(zip(keys, map(forged, records), strict=True)), rows), prefix=recipe.digest)
    cards = data(Path(write_report(store, tmp_path / "r.html")))["cards"]
    assert {card["name"] for card in cards} == {row.name for row in rows}
    for key in keys:
        try:
            shown = store.get(recipe, key)._repr_html_()
        except CorruptError as error:
            shown = str(error) + "<table>" if re.fullmatch(rf"{store.path}: entry .*", str(error)) else ""
        assert "<table>" in shown


def test_the_page_in_a_browser(store, tmp_path):
    """Pages, filters and new colours work without a network; markup in names stays text; nothing is logged as wrong."""
    path = Path(write_report(store, tmp_path / "r.html"))
    with chromium() as page:
        page.window(1200)
        page.open(path)
        page.wait("document.querySelectorAll('.card').length === 24")
        assert page.evaluate("document.querySelector('#place').textContent") == "page 1 of 3"
        assert not page.evaluate("document.querySelector('#pager').hidden")
        assert page.evaluate("document.querySelector('#count').textContent") == "61 shown."
        assert page.evaluate("document.querySelectorAll('.card:first-child figure').length") == 6
        first = "document.querySelector('.card .tiles figure:last-child canvas').toDataURL()"
        before = page.evaluate(first)
        page.evaluate("document.querySelector('#again').click()")
        page.wait(f"{first} !== {json.dumps(before)}")
        page.evaluate("document.querySelector('#next').click()")
        page.evaluate("document.querySelector('#next').click()")
        page.wait("document.querySelectorAll('.card').length === 13")
        assert page.evaluate("document.querySelector('.bad').textContent").startswith(SCRIPT[:8])
        choose = "(id, text) => { const e = by(id); e.value = text; e.dispatchEvent(new Event('input')); }"
        page.evaluate(f"({choose})('status', 'failed')")
        page.wait("document.querySelectorAll('.card').length === 1")
        page.evaluate(f"({choose})('status', ''), ({choose})('name', 'a/0')")
        page.wait("document.querySelector('#count').textContent === '5 shown.'")
        page.evaluate("document.querySelector('button[type=reset]').click()")
        page.wait("document.querySelector('#count').textContent === '61 shown.'")
        page.evaluate(f"({choose})('area-from', '99')")
        page.wait("document.querySelector('#count').textContent === '0 shown.'")
        assert page.evaluate("document.title") == "images.augcache"
        assert page.errors == []
        assert {url.split(":")[0] for url in page.requests} <= {"file", "data", "about"}
        page.window(360)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360

"""What is listed of a folder, and under which classes: as torchvision's ImageFolder, link for link."""

import os
import shutil
import unicodedata
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import pytest
from conftest import write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from video_variants import write_video

from augcache.errors import SourceError, SourceWarning
from augcache.sources import BrokenItem, Folder, Masked, Sharded, Videos
from augcache.sources.passed_over import is_passed_over

NAMES = st.sampled_from(["a", "B", "c1", "c10", "c2", "é", ".hidden", "@eaDir", "__MACOSX", ".ipynb_checkpoints"])
FILES = st.sampled_from(["1.png", "2.jpg", "._1.png", "Thumbs.db", "notes.txt"])


@st.composite
def trees(draw):
    """Folders below a root, the files in each, and links from folders to others or to themselves."""
    folders = [()]
    for _ in range(draw(st.integers(0, 6))):
        folders.append((*draw(st.sampled_from(folders)), draw(NAMES)))
    files = {(*draw(st.sampled_from(folders)), draw(FILES)) for _ in range(draw(st.integers(0, 8)))}
    links = [
        ((*draw(st.sampled_from(folders)), draw(st.sampled_from(["x", "b"]))), draw(st.sampled_from(folders)))
        for _ in range(draw(st.integers(0, 3)))
    ]
    return folders, files, links


def make(root: Path, tree) -> None:
    folders, files, links = tree
    for folder in folders:
        root.joinpath(*folder).mkdir(parents=True, exist_ok=True)
    for file in files:
        root.joinpath(*file).write_bytes(b"x")
    for link, target in links:
        if not root.joinpath(*link).is_symlink():
            root.joinpath(*link).symlink_to(root.joinpath(*target))


def reference(folder: Path, above=()) -> tuple[list[str], list[str]]:
    """Files and first-level folders, each link followed but those to a folder that it lies in."""
    files, folders = [], []
    within = (*above, os.path.realpath(folder))
    for name in os.listdir(folder):
        if is_passed_over(name):
            continue
        if (folder / name).is_dir():
            if os.path.realpath(folder / name) not in within:
                folders.append(name)
                files += [f"{name}/{below}" for below in reference(folder / name, within)[0]]
        elif name.endswith((".png", ".jpg")):
            files.append(name)
    return files, sorted(folders)


@given(trees())
@settings(max_examples=150, deadline=None)
def test_every_file_under_each_of_its_names(tree):
    """Whatever is linked to what, all files are listed, loops apart, and classes are all folders of the first level."""
    with TemporaryDirectory() as name:
        root = Path(name) / "root"
        make(root, tree)
        files, folders = reference(root)
        if not files:
            with pytest.raises(SourceError, match="no images"):
                Folder(root)
            return
        source = Folder(root)
        assert [item.name for item in source] == sorted(files, key=os.fsencode)
        assert source.classes == tuple(folders) + ("",) * any("/" not in file for file in files)
        assert all(source.classes[item.target] == item.label for item in source)
        assert [item.label for item in source] == [
            item.name.split("/")[0] if "/" in item.name else "" for item in source
        ]
        shares = [Sharded(source, index, 3) for index in (1, 2, 3) if any_in(source, index)]
        assert {share.classes for share in shares} == {source.classes}
        assert sorted(item for share in shares for item in pairs(share)) == sorted(pairs(source))


def any_in(source, index) -> bool:
    try:
        return len(Sharded(source, index, 3)) > 0
    except SourceError:
        return False


def pairs(source) -> list[tuple[str, int]]:
    return [(item.name, item.target) for item in source]


@given(trees())
@settings(max_examples=100, deadline=None)
def test_as_torchvision_has_it(tree):
    """Where nothing is hidden and no link leads back: samples, classes and numbers of torchvision's ImageFolder."""
    datasets = pytest.importorskip("torchvision.datasets")
    folders, files, links = tree
    with TemporaryDirectory() as name:
        root = Path(name) / "root"
        plain = [(), ("a",), ("a", "c2"), *(each for each in folders if each and not any(map(is_passed_over, each)))]
        files |= {("a", "1.png"), ("a", "c2", "2.jpg")}
        links = [(link, target) for link, target in links if len(link) == 1 and target in plain[1:]]  # none is a loop
        links.append((("d",), ("a",)))
        make(root, (plain, {file for file in files if file[:-1] in plain}, links))
        expected = datasets.ImageFolder(root, allow_empty=True)
        source = Folder(root)
        assert [each for each in source.classes if each] == expected.classes
        samples = {sample for sample in expected.samples if not os.path.basename(sample[0]).startswith(".")}
        assert {(str(root / item.name), item.target) for item in source if item.label} == samples


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_a_folder_linked_under_two_names(tmp_path, order):
    """Images and videos of a folder that is linked twice are listed under both names, whichever came first."""
    write_image(tmp_path / "real/0.png", 1)
    write_video(tmp_path / "real/0.mp4", frames=2)
    root = tmp_path / "root"
    root.mkdir()
    for name in order:
        (root / name).symlink_to(tmp_path / "real")
    (tmp_path / "real/back").symlink_to(root)
    assert pairs(Folder(root)) == [("one/0.png", 0), ("two/0.png", 1)]
    assert list(Videos(root).names()) == ["one/0.mp4", "two/0.mp4"]


def test_links_without_end(tmp_path, monkeypatch):
    """Folders that all link to one another are one clear line, not a listing that never ends."""
    monkeypatch.setattr("augcache.sources.folder.MOST_WAYS", 50)
    write_image(tmp_path / "0/0.png", 1)
    for name in range(7):
        (tmp_path / str(name)).mkdir(exist_ok=True)
        for other in range(7):
            (tmp_path / f"{name}/to{other}").symlink_to(tmp_path / str(other))
    with pytest.raises(SourceError, match="links lead to this folder in more than 50 ways; take some away"):
        Folder(tmp_path)


def test_empty_and_failing_classes_keep_their_numbers(tmp_path):
    """A class is a folder, whether anything in it can be read or not."""
    write_image(tmp_path / "p/b/0.png", 1)
    (tmp_path / "p/a").mkdir()
    (tmp_path / "p/c").mkdir()
    (tmp_path / "p/c/bad.png").write_text("no image")
    (tmp_path / "p/notes.txt").write_text("x")
    source = Folder(tmp_path / "p")
    assert source.classes == ("a", "b", "c")
    assert pairs(source) == [("b/0.png", 1), ("c/bad.png", 2)]


def test_images_beside_class_folders_shift_no_number(tmp_path):
    """A stray image in the root is of a class of its own, the last; a flat folder has that one alone."""
    write_image(tmp_path / "p/0.png", 1)
    assert (Folder(tmp_path / "p").classes, pairs(Folder(tmp_path / "p"))) == (("",), [("0.png", 0)])
    write_image(tmp_path / "p/a/0.png", 1)
    write_image(tmp_path / "p/b/c/0.png", 1)
    source = Folder(tmp_path / "p")
    assert source.classes == ("a", "b", "")
    assert pairs(source) == [("0.png", 2), ("a/0.png", 0), ("b/c/0.png", 1)]


def test_a_folder_of_masks_is_no_class(tmp_path):
    """Masks inside the folder of their images take no number, and one outside changes nothing."""
    for name in ("m/a/0.png", "m/z/0.png", "a/0.png", "z/0.png"):
        write_image(tmp_path / "p" / name, 1)
    source = Masked(Folder(tmp_path / "p"), tmp_path / "p/m")
    assert source.classes == ("a", "z")
    assert pairs(source) == [("a/0.png", 0), ("z/0.png", 1)]
    shutil.move(tmp_path / "p/m", tmp_path / "m")
    assert pairs(Masked(Folder(tmp_path / "p"), tmp_path / "m")) == pairs(source)


def test_what_cannot_be_listed_is_in_its_class(tmp_path):
    """A link that cannot be followed is a failure, and shifts no number."""
    write_image(tmp_path / "p/b/0.png", 1)
    (tmp_path / "p/a").mkdir()
    (tmp_path / "p/a/deep").symlink_to("x" * 300)
    source = Folder(tmp_path / "p")
    assert source.classes == ("a", "b")
    broken = [item for item in source if isinstance(item, BrokenItem)]
    assert [(item.label, item.target) for item in broken] in ([], [("a", 0)])


def test_two_unicode_forms_of_a_name(tmp_path, run_cli):
    """They stay two classes, and one warning names both in a way that shows the difference."""
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    for number, name in enumerate(names):
        write_image(tmp_path / "p" / name / f"{number}.png", number)
    with pytest.warns(SourceWarning) as caught:
        assert Folder(tmp_path / "p").classes == tuple(sorted(names))
    [message] = [str(each.message) for each in caught]
    assert r"'cafe\u0301' and 'caf\xe9' differ only in their Unicode form" in message
    done = run_cli("build", tmp_path / "p", "--transform", "toy:toy", "--workers", 0)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if "Unicode" in line]
    assert len(said) == 1
    assert said[0].startswith("augcache: ")
    shutil.rmtree(tmp_path / "p" / names[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Folder(tmp_path / "p")


def test_a_folder_by_url_has_the_same_classes(tmp_path):
    """Listed from a bucket or from a disk: the same names, classes and numbers, and the same passed over."""
    memory = fsspec.filesystem("memory")
    tree = [
        "p/b/0.png",
        "p/a/c/1.png",
        "p/2.png",
        "p/@eaDir/x/0.png",
        "p/__MACOSX/0.png",
        "p/b/@eaDir/0.png",
        "p/.h/0.png",
    ]
    for name in tree:
        write_image(tmp_path / name, 1)
        memory.pipe(f"/test-folders/{name}", b"x")
    (tmp_path / "p/empty").mkdir()
    memory.mkdirs("/test-folders/p/empty")
    here, there = Folder(tmp_path / "p"), Folder("memory://test-folders/p")
    assert here.classes == there.classes == ("a", "b", "empty", "")
    assert pairs(here) == pairs(there) == [("2.png", 3), ("a/c/1.png", 0), ("b/0.png", 1)]

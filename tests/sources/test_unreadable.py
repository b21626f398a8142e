"""Sources with parts that are no files, that cannot be read, or that go while they are read."""

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_image
from PIL import Image

from augcache import HashedSaliencyDataset, Recipe, Store, build
from augcache.building.build import extract_frames, resize
from augcache.errors import SourceError, StoreError
from augcache.sources import Annotated, Folder, ListFile, Packed, Videos, folder, open_regular, open_source, regular
from augcache.storage.store_path import store_path
from augcache.upkeep.verify import verify

TOY = Recipe("toy:toy")
SMALL = Recipe("resize", width=8, height=8)


def reasons(store):
    return {failure.name: failure.reason for failure in Store(store).failures()}


def put_odd_files(root):
    """Everything that is no regular file, under an image's name; returns what each is called."""
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket.png"))
    (root / "zero.jpg").symlink_to("/dev/zero")
    (root / "to-pipe.jpg").symlink_to("pipe.jpg")
    (root / "itself.jpg").symlink_to("itself.jpg")
    (root / "nowhere.jpg").symlink_to("gone")
    return {
        "pipe.jpg": "is a named pipe, not a regular file",
        "socket.png": "is a socket, not a regular file",
        "zero.jpg": "is a device, not a regular file",
        "to-pipe.jpg": "is a named pipe, not a regular file",
        "itself.jpg": "cannot be read: Too many levels of symbolic links",
        "nowhere.jpg": "cannot be read: No such file or directory",
    }


def test_only_regular_files_are_read(images, run_cli, tmp_path):
    """A pipe, a socket, a device and links to them are failures with their reasons, at once; the rest is built."""
    expected = {f"a/{name}": reason for name, reason in put_odd_files(images / "a").items()}
    os.mkfifo(images / "a/nameless")  # its first bytes would tell whether it is an image
    (images / "a/loop").symlink_to("loop")
    for command in (["build", "--transform", "toy:toy"], ["resize", "--size", "8"]):
        store = tmp_path / f"{command[0]}.augcache"
        out = run_cli(command[0], images, *command[1:], "--workers", 2, "--json", "--store", store, timeout=60)
        assert out.returncode == 4, out.stderr
        assert json.loads(out.stdout)["computed"] == 6
        assert reasons(store) == expected


def test_a_pipe_in_place_of_any_file_that_is_read(images, tmp_path):
    """Lists, annotations, masks and packed datasets are regular files as well; what else is there is said."""
    for name in ("l.txt", "l.csv", "a.json"):
        os.mkfifo(tmp_path / name)
    for name in ("l.txt", "l.csv"):
        with pytest.raises(SourceError, match=f"{name}: is a named pipe, not a regular file"):
            open_source(tmp_path / name)
    with pytest.raises(SourceError, match=r"a\.json: is a named pipe"):
        Annotated(images, tmp_path / "a.json")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/data_batch_1.bin").write_bytes(bytes(3073))
    (tmp_path / "c/batches.meta.txt").write_text("cat\n")
    assert len(Packed(tmp_path / "c")) == 1
    os.mkfifo(tmp_path / "c/data_batch_2.bin")
    with pytest.raises(SourceError, match=r"data_batch_2\.bin: is a named pipe"):
        open_source(tmp_path / "c")
    (tmp_path / "p").mkdir()
    (tmp_path / "m").mkdir()
    write_image(tmp_path / "p/x.png", 1)
    os.mkfifo(tmp_path / "m/x.png")
    recipe = Recipe("resize", width=8, height=8, masks=True)
    report = resize(
        open_source(tmp_path / "p", masks=tmp_path / "m"), recipe, tmp_path / "s.augcache", workers=0
    )  # fmt: skip
    assert report.failed == 1
    assert "x.png: is a named pipe" in reasons(tmp_path / "s.augcache")["x.png"]


def test_a_list_that_names_what_is_no_file(images, tmp_path):
    """A folder, a pipe, a link to itself, the list itself, or what no file system can name: a failure each."""
    put_odd_files(images)
    names = ["pipe.jpg", "a", "itself.jpg", "l.txt", "zero\0byte.png", "n" * 300 + ".png", "~/x.png", "a/0.png/x.png"]
    (images / "l.txt").write_text("a/0.png\n" + "\n".join(names) + "\n")
    report = build(images / "l.txt", TOY, tmp_path / "s.augcache", workers=0)
    assert (report.computed, report.failed) == (1, len(names))
    found = reasons(tmp_path / "s.augcache")
    assert found["a"] == "is a folder, not a regular file"
    assert found["l.txt"].startswith("not an image that can be read")
    assert "embedded null" in found["zero\0byte.png"]
    assert found["n" * 300 + ".png"] == "cannot be read: File name too long"


def test_a_list_of_one_endless_line(tmp_path):
    """A sparse file of a terabyte, or a line without end, is not read into memory."""
    with open(tmp_path / "l.txt", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(SourceError, match="a line of 65536 characters or more"):
        ListFile(tmp_path / "l.txt")


def test_a_file_that_is_too_large_is_a_failure(images, tmp_path, monkeypatch):
    """A sparse file of a terabyte, and one that does not fit into memory, are failures with their reasons."""
    with open(images / "a/huge.jpg", "wb") as file:
        file.truncate(1 << 40)
    build(images, TOY, tmp_path / "s.augcache", workers=0)
    assert reasons(tmp_path / "s.augcache") == {
        "a/huge.jpg": "cannot be read: its 1099511627776 bytes are more than an image file has (4294967296)"
    }
    code = """
import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from augcache.sources.regular import read_regular
from augcache.errors import SourceError
try:
    read_regular("huge")
except SourceError as error:
    print(error)
"""
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(3 << 30)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert out.stdout.strip() == f"cannot be read: its {3 << 30} bytes do not fit into memory", out.stderr


def test_a_pipe_that_comes_between_looking_and_opening(tmp_path, monkeypatch):
    """The file that was opened decides, and opening never waits."""
    os.mkfifo(tmp_path / "x.jpg")
    (tmp_path / "file").write_bytes(b"x")
    status = os.stat(tmp_path / "file")
    monkeypatch.setattr(regular.os, "stat", lambda path: status)
    with pytest.raises(SourceError, match="is a named pipe"):
        open_regular(tmp_path / "x.jpg")


# -- folders that cannot be listed ---------------------------------------------------------------------------


def without_rights():
    """Take away what root has: from here on, permissions bind it as anybody."""
    drop, libc = 24, ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # to pass over permissions, for all and for reading
        if os.getuid() == 0 and libc.prctl(drop, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")


@pytest.fixture
def as_anybody(tmp_path):
    """Run Python code as a user for whom permissions bind."""

    def run(code):
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
            preexec_fn=without_rights,  # nothing here runs threads that it could wait for
        )  # fmt: skip  # what, where and how
        assert out.returncode == 0, out.stderr
        return out.stdout

    return run


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_subfolder_that_may_not_be_read_is_one_failure(images, tmp_path, as_anybody, mode):
    """All the rest is built; what was stored of it before stays; once it may be read, it is built."""
    write_image(images / "b/deep/9.png", 9)
    command = f"""
from augcache import Recipe, Store, build
from augcache.building.build import resize
for make, recipe in ((build, Recipe("toy:toy")), (resize, Recipe("resize", width=8, height=8))):
    report = make({str(images)!r}, recipe, make.__name__ + ".augcache", workers=0)
    print(report.computed + report.reused, report.failed)
    for failure in Store(report.store).failures(recipe):
        print(failure.name, failure.reason)
    print(sum(1 for _ in Store(report.store).sources(bytes(16) if make is build else recipe.digest)))
"""
    (images / "b").chmod(mode)
    reason = "b/ cannot be listed: Permission denied"
    assert as_anybody(command).splitlines() == ["3 1", reason, "3"] * 2
    (images / "b").chmod(0o755)
    assert as_anybody(command).splitlines()[0] == "7 0"
    (images / "b").chmod(mode)
    assert as_anybody(command).splitlines() == ["3 1", reason, "7"] * 2
    (images / "b").chmod(0o755)


def test_a_dataset_with_a_part_that_cannot_be_listed_is_refused(images, tmp_path, as_anybody):
    """Fewer images than the folder has would be another dataset; verify says that they cannot be read."""
    build(images, TOY, tmp_path / "s.augcache", workers=0)
    (images / "b").chmod(0)
    out = as_anybody(f"""
from augcache import HashedSaliencyDataset
from augcache.errors import SourceError
from augcache.upkeep.verify import verify
try:
    HashedSaliencyDataset({str(images)!r}, store="s.augcache")
except SourceError as error:
    print(error)
for problem in verify("s.augcache", sources=True, source={str(images)!r}).problems:
    print(problem.kind, problem.names)
""")
    assert out.splitlines() == [
        f"{images}: b/ cannot be listed: Permission denied",
        "sources that cannot be read ['b/1.png', 'b/3.png', 'b/5.png', 'b/']",
    ]
    (images / "b").chmod(0o755)


def test_masks_that_cannot_be_listed(tmp_path, as_anybody):
    """Images whose masks are out of reach are not called images without a mask, and their copies stay."""
    for name in ("a/0", "b/1"):
        write_image(tmp_path / f"p/{name}.png", 1)
        mask = write_image(tmp_path / f"m/{name}.png", 2)
        Image.fromarray(mask[..., 0]).save(tmp_path / f"m/{name}.png")
    command = """
from augcache import Recipe, Store
from augcache.building.build import resize
from augcache.sources import open_source
recipe = Recipe("resize", width=8, height=8, masks=True)
report = resize(open_source("p", masks="m"), recipe, "s.augcache", workers=0)
print(report.computed + report.reused, [(each.name, each.reason) for each in Store(report.store).failures()])
print([row.name for row in Store(report.store).sources(recipe.digest)])
"""
    assert as_anybody(command).splitlines() == ["2 []", "['a/0.png', 'b/1.png']"]
    (tmp_path / "m/b").chmod(0)
    assert as_anybody(command).splitlines() == [
        "1 [('b/', 'its masks in m: cannot be listed: Permission denied')]", "['a/0.png', 'b/1.png']",
    ]  # fmt: skip  # two lines
    (tmp_path / "m/b").chmod(0o755)


def test_videos_of_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    """Of videos as of images: one failure, and the rest is done."""
    from video_variants import write_video

    (tmp_path / "v/b").mkdir(parents=True)
    write_video(tmp_path / "v/x.mp4", frames=4)
    write_video(tmp_path / "v/b/y.mp4", frames=4)
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/b"):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(folder.os, "scandir", scandir)
    report = extract_frames(Videos(tmp_path / "v"), Recipe("frame", every=2), tmp_path / "s.augcache", workers=0)
    assert (report.computed, report.failed) == (1, 1)
    assert reasons(tmp_path / "s.augcache") == {"b/": "cannot be listed: Input/output error"}
    (tmp_path / "v/x.mp4").unlink()
    with pytest.raises(SourceError, match="no videos in what can be listed of it; b/ cannot be listed"):
        Videos(tmp_path / "v")


def test_a_folder_of_which_nothing_can_be_listed(tmp_path, monkeypatch):
    """The reason is given, and not that there are no images."""
    (tmp_path / "p/b").mkdir(parents=True)
    real = os.scandir
    monkeypatch.setattr(folder.os, "scandir", lambda path: real(path) if str(path)[-1] == "p" else real("/none/b"))
    monkeypatch.setattr(folder, "is_there", lambda *_: True)
    with pytest.raises(SourceError, match="no images in this folder"):  # it went while it was listed
        Folder(tmp_path / "p")

    def refuse(path):
        if str(path)[-1] == "p":
            return real(path)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder.os, "scandir", refuse)
    with pytest.raises(SourceError, match="in what can be listed of it; b/ cannot be listed: Permission denied"):
        Folder(tmp_path / "p")


def test_a_file_that_goes_while_its_folder_is_listed(images, monkeypatch):
    """It is not listed, as it would not be a moment later; nothing else changes."""
    real = folder._is_image

    def wanted(name, head):
        (images / "a/2.png").unlink(missing_ok=True)
        return real(name, head)

    monkeypatch.setattr(folder, "_is_image", wanted)
    assert [item.name for item in Folder(images)] == ["a/0.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]


# -- paths that cannot be looked at ----------------------------------------------------------------------------


def odd_paths(root):
    (root / "loop").symlink_to("loop")
    (root / "file").write_text("x")
    return [root / "loop", root / "file/below", root / ("n" * 300), "zero\0byte", root / "loop/below", "\ud800"]


@pytest.mark.parametrize("number", range(6))
def test_every_path_that_cannot_be_looked_at_is_one_line(images, tmp_path, number):
    """Source, masks, annotations, list, root, store and folder of originals: an error of ours, never another."""
    path = odd_paths(tmp_path)[number]
    for use in (
        lambda: open_source(path),
        lambda: open_source(images, masks=path),
        lambda: open_source(images, annotations=path),
        lambda: open_source(path, annotations="x.json"),
        lambda: ListFile(path),
        lambda: Packed(path),
        lambda: Videos(path),
        lambda: build(path, TOY, tmp_path / "s.augcache", workers=0),
    ):
        with pytest.raises((SourceError, StoreError)):
            use()
    for mode in "rw":
        with pytest.raises(StoreError):
            Store(path, mode)
    if number != 1:
        with pytest.raises(StoreError):
            build(images, TOY, path, workers=0)
    store = build(images, TOY, tmp_path / "t.augcache", workers=0).store
    with pytest.raises(SourceError):
        verify(store, sources=True, source=path)
    with pytest.raises((SourceError, StoreError)):
        HashedSaliencyDataset(path, store=store)


def test_paths_below_a_folder_that_may_not_be_entered(images, tmp_path, as_anybody):
    """The line says what is wrong, for sources and for stores."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    out = as_anybody(f"""
from augcache import Recipe, Store, build
from augcache.errors import AugcacheError
from augcache.sources import open_source
for use in (
    lambda: open_source("closed/p"), lambda: open_source("closed/l.txt"),
    lambda: open_source({str(images)!r}, masks="closed/m"),
    lambda: open_source({str(images)!r}, annotations="closed/a.json"),
    lambda: Store("closed/s.augcache"), lambda: Store("closed/s.augcache", "w"),
    lambda: build({str(images)!r}, Recipe("toy:toy"), "closed/s.augcache", workers=0),
):
    try:
        use()
    except AugcacheError as error:
        print(error)
""")
    assert len(out.splitlines()) == 7
    assert all("closed/" in line and "Permission denied" in line for line in out.splitlines()), out


def test_a_store_in_the_current_folder(images, tmp_path, monkeypatch):
    """`--store .` has no name to put another beside, and a store may be named .augcache."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(StoreError, match="give the store a name"):
        Store(".", "w")
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(StoreError, match="no store there"):
        Store(".augcache")
    assert Store(".augcache", "w").path.is_dir()
    monkeypatch.chdir(tmp_path)
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StoreError, match="the current folder is gone"):
        store_path("images")


# -- a file in place of another ----------------------------------------------------------------------------------


def test_digests_find_what_size_and_time_do_not_show(images, tmp_path, run_cli):
    """A file swapped for another of its size and time is called changed, with advice that helps."""
    store = build(images, TOY, tmp_path / "images.augcache", workers=0).store
    path = images / "a/0.png"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert verify(store, sources=True).problems == []
    [problem] = verify(store, sources=True, digests=True).problems
    assert (problem.kind, problem.names) == ("changed sources of unchanged size and time", ["a/0.png"])
    out = run_cli("verify", store, "--sources", "--digests")
    assert (out.returncode, "a/0.png" in out.stdout) == (1, True)
    assert run_cli("verify", store, "--digests").returncode == 2
    with pytest.raises(SourceError, match="sources=True"):
        verify(store, digests=True)
    write_image(path, 77)
    os.utime(path)
    build(images, TOY, store, workers=0)
    assert verify(store, sources=True, digests=True).problems == []
    assert np.array_equal(Store(store).source("a/0.png").mtime_ns, path.stat().st_mtime_ns)

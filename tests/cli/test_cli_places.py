"""Every command in every odd place: one clear line and a truthful exit status, whatever it is given or printed to."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import filelock  # noqa: F401
import numpy as np
import pytest
from conftest import write_image
from hypothesis import given, settings
from hypothesis import strategies as st

import augcache.building.build
import augcache.building.frames
import augcache.cli.console
import augcache.pages.preview
import augcache.pages.report
import augcache.upkeep.export
import augcache.upkeep.merge
import augcache.upkeep.prune
import augcache.upkeep.verify  # noqa: F401  # all of them: a user who may not read the sources can import none later
from augcache import Recipe, Store, build
from augcache.cli.main import main
from augcache.errors import StoreError
from augcache.images.keys import ContentKey
from augcache.records import codec
from augcache.storage.manifest import Failure, Source
from augcache.storage.store import Batch

TOY = Recipe("toy:toy")
LONG = "x" * 5000


def run_main(*arguments, cwd=None, user=None, env=None, timeout=60):
    """Run the command line in a fork of this process; returns its exit status, stdout and stderr."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout = sys.stderr = None
                sys.argv = ["augcache", *map(os.fsdecode, arguments)]
                os.environ.update(env or {})
                os.chdir(cwd or ".")
                if user is not None:
                    os.setgroups([])
                    os.setresgid(user, user, user)
                    os.setresuid(user, user, user)
                signal.alarm(timeout)
                main()
            except SystemExit as stop:
                sys.stdout.flush()
                os._exit(stop.code or 0)
            except BaseException:  # noqa: BLE001  # the parent must know
                os.write(2, traceback.format_exc().encode(errors="replace"))
            finally:
                os._exit(99)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return status, *texts


@pytest.fixture
def store(images) -> Path:
    return Path(build(images, TOY, workers=0).store)


COMMANDS = {
    "info": (), "failures": (), "report": (), "verify": (), "preview": (), "compact": (), "prune": ("--recipe", "a"),
    "merge": (), "export": ("out",), "build-saliency": (), "resize": (), "extract-frames": ("--every", "3"),
    "build": ("--transform", "toy:toy"),
}  # fmt: skip  # a table


@pytest.mark.parametrize("command", COMMANDS)
def test_no_place_is_a_traceback(tmp_path, command):
    """Whatever path a command is given, it answers in one line with status 1, and nothing is made."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "closed/x").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    tmp_path.chmod(0o777)
    before = sorted(tmp_path.rglob("*"))
    places = ["nowhere", "file.txt", "empty", "file.txt/x", LONG, "n\new", "e\x1b[31m", b"s\xff"]
    if not command.startswith(("build", "resize", "extract")):
        places += ["/", "/etc"]
    cases = [(tmp_path, place, None) for place in places] + [(tmp_path / "empty", place, None) for place in (".", "./")]
    if os.geteuid() == 0:
        cases += [(tmp_path, place, 65534) for place in ("closed", "closed/x", "closed/x/y")]
    for cwd, place, user in cases:
        first = ("new",) if command == "merge" else ()
        status, out, err = run_main(command, *first, place, *COMMANDS[command], cwd=cwd, user=user)
        if command == "extract-frames" and place == "file.txt":
            assert status == 4
            shutil.rmtree(tmp_path / "file.txt.augcache")
            continue
        assert (status, out, err.count("\n")) == (1, "", 1), (place, status, err)
        assert err.startswith("augcache: ")
        assert err[:-1].isprintable()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_path_is_a_variable_that_is_not_set(tmp_path, command):
    """It does not stand for the current folder."""
    status, out, err = run_main(
        command, *(("new",) if command == "merge" else ()), "", *COMMANDS[command], cwd=tmp_path
    )
    assert (status, out) == (2, "")
    assert "is a variable not set?" in err
    assert not list(tmp_path.iterdir())


def test_a_nul_in_a_path_is_an_error_of_ours():
    """The library says so, too."""
    for mode in "rw":
        with pytest.raises(StoreError, match="no store can have this path"):
            Store("a\0b", mode)


def test_a_store_here(store):
    """The current folder may be the store."""
    for command in ("info", "failures", "verify"):
        assert run_main(command, ".", cwd=store)[0] == 0


# -- streams ------------------------------------------------------------------------------------------------------


def shell(line: str, store: Path, **env) -> tuple[int, str, str]:
    """Run a line of bash, in which augcache and the store have names."""
    program = f"set -o pipefail; augcache() {{ {sys.executable} -m augcache \"$@\"; }}; S='{store}'; {line}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **env}
    done = subprocess.run(["bash", "-c", program], capture_output=True, check=False, env=environment, cwd=store.parent)
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("augcache info $S > /dev/full", 1, "augcache: stdout cannot be written (No space left on device)"),
        ("augcache failures $S > /dev/full", 0, ""),  # nothing to print
        ("augcache --help > /dev/full", 1, "augcache: stdout cannot be written (No space left on device)"),
        ("augcache info $S >&-", 1, "augcache: stdout cannot be written (Bad file descriptor)"),
        ("augcache info $S > /dev/full 2>&1", 1, ""),
        ("augcache info nowhere 2>&-", 1, ""),
        ("augcache info nowhere 2> /dev/full", 1, ""),
        ("augcache info $S >&- 2>&- <&-", 1, ""),
        ("augcache info $S | true", 0, ""),
        ("augcache info $S --json | true", 0, ""),
        ("augcache verify $S | true", 0, ""),
        ("augcache verify $S --recompute 2 | true", 1, "recipes left out"),
        ("augcache build images --transform toy:toy --workers 0 2>&1 | true", 0, ""),
        ("augcache report $S -o /dev/full", 1, "/dev/full: the page cannot be written (No space left on device)"),
        ("augcache preview $S -o /dev/full", 1, "/dev/full: the sheet cannot be written (No space left on device)"),
    ],
)
def test_streams_that_are_full_closed_or_gone(store, line, status, message):
    """One line where anybody can read it, and the status of what was done; a reader that has gone is no error."""
    before = (store / "data.mdb").read_bytes()
    found, _, err = shell(line, store)
    assert found == status, err
    assert message in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert (store / "data.mdb").read_bytes() == before  # a closed number is not the store's by then


@pytest.mark.slow
def test_any_encoding_and_width(store, images):
    """ASCII terminals get escapes, narrow ones all of it."""
    (images / "a/bild_ä.png").write_text("no image")
    assert shell("augcache build images --transform toy:toy --workers 0 --quiet", store)[0] == 4
    for env in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}, {"COLUMNS": "10"}):
        for command in ("failures $S", "info $S", "verify $S", "--help", "report $S -o bild_ä.html"):
            status, _, err = shell(f"augcache {command}", store, **env)
            assert status == 0, err
        assert "a/bild_" in shell("augcache failures $S", store, **env)[1]
    assert shell("augcache failures $S", store, PYTHONIOENCODING="ascii")[1].startswith("a/bild_\\xe4.png\t")


# -- what is printed ----------------------------------------------------------------------------------------------

ANY = st.text(st.characters(exclude_categories=()), max_size=20)
FILES = ANY.filter(lambda name: name and "\0" not in name and not any(0xD800 <= ord(c) < 0xDC80 or 0xDD00 <= ord(c) < 0xE000 for c in name))  # fmt: skip  # noqa: E501  # what a file system may give


@settings(max_examples=8, deadline=None)
@given(rows=st.dictionaries(FILES, ANY, min_size=1, max_size=4), label=FILES)
def test_no_row_is_forged(rows, label):
    """Any names, classes and reasons: as many lines as rows, each printable, and JSON that gives them back."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "s.augcache", "w")
        record = {"image": np.zeros((4, 4, 3), np.uint8)}
        sources = [Source(name, ContentKey(bytes([n]) * 16), label=label) for n, name in enumerate(rows)]
        batch = Batch({source.key: codec.encode(record) for source in sources[:1]}, sources)
        store.commit(TOY, batch)
        store.commit(TOY, Batch(failures=[Failure(name, reason) for name, reason in rows.items()]))
        expected = {os.fsencode(name): reason for name, reason in rows.items()}
        status, out, err = run_main("failures", store.path)
        assert (status, err, out.count("\n")) == (0, "", len(expected))
        assert all(len(line.split("\t")) == 2 and line.replace("\t", "").isprintable() for line in out.split("\n")[:-1])
        found = json.loads(run_main("failures", store.path, "--json")[1])
        assert {os.fsencode(each["name"]): each["reason"] for each in found} == expected
        status, out, err = run_main("verify", store.path)
        gone = [line for line in out.split("\n") if line.startswith("sources without an entry\t")]
        assert (status, len(gone)) == (1 if len(expected) > 1 else 0, len(expected) - 1)
        for command in (("info",), ("info", "--json"), ("verify",)):
            _, out, err = run_main(command[0], store.path, *command[1:])
            assert all(line.replace("\t", "").isprintable() for line in (out + err).split("\n"))
        for command in ("report", "preview"):
            assert run_main(command, store.path, "-o", Path(folder) / "x.png")[0] == 0


def test_parameters_and_provenance_of_a_stranger_are_escaped(tmp_path):
    """What a store says of itself reaches no terminal as it is; numbers that JSON lacks are null there."""
    store = Store(tmp_path / "s.augcache", "w")
    recipe = Recipe.from_json('{"transform": "a:b", "version": 1, "params": {"x\\nentries: 9": "\\u001b[2J[red]"}}')
    store.commit(recipe, Batch({ContentKey(bytes(16)): codec.encode({"x": np.zeros(3)})}))
    row = json.loads(dict(store.scan(b"recipes"))[recipe.digest])
    row["provenance"]["\x1b[31m"] = "a\nb\ud800"
    store.write(
        lambda transaction, databases: transaction.put(
            recipe.digest, json.dumps(row).encode(), db=databases[b"recipes"]
        )
    )
    status, out, err = run_main("info", store.path)
    assert (status, err) == (0, "")
    assert all(line.isprintable() for line in out.split("\n"))
    assert "\\x1b[2J[red]" in out
    assert json.loads(run_main("info", store.path, "--json")[1])["recipes"][0]["provenance"]["\x1b[31m"] == "a\nb\ud800"


# -- what is imported ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_modules_of_the_current_folder_do_not_run(store, tmp_path):
    """Whatever lies beside a stranger's store, no command runs it; --transform finds it last, in the workers too."""
    for name in ("cv2", "numpy", "lmdb", "rich", "json", "joblib", "numba", "click", "logging", "toy2"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w').write('x')\n")
    (tmp_path / "mine.py").write_text(
        "from augcache import transform\n@transform(version=1)\ndef red(image):\n    return {'red': image[..., 0]}\n"
    )
    for start in ("augcache", f"{Path(sys.executable).with_name('augcache')}"):
        for command in ("info $S", "verify $S", "preview $S", "report $S", "export $S out --quiet", "failures $S"):
            status, _, err = shell(f"{start} {command}", store)
            assert status == 0, err
        for workers in (0, 2):
            line = f"{start} build images --transform mine:red --workers {workers} --store {workers}.augcache"
            status, _, err = shell(line, store)
            assert status == 0, err
            shutil.rmtree(tmp_path / f"{workers}.augcache")
        shutil.rmtree(tmp_path / "out")
    assert not (tmp_path / "taken").exists()


@pytest.mark.slow
def test_a_store_chooses_no_code(store, tmp_path):
    """verify --recompute imports only what is installed or named, and says what it has left out."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w').write('x')\n")
    opened = Store(store, "w")
    evil = Recipe.from_json('{"transform": "evil:f", "version": 1, "params": {}}')
    row = next(opened.sources())
    opened.commit(evil, Batch({row.key: codec.encode({"x": np.zeros(3)})}))
    env = {"PYTHONPATH": f"{Path(__file__).parents[1]}:{tmp_path}"}
    status, out, err = shell("augcache verify $S --recompute 6", store, **env)
    assert status == 1
    assert "recipes left out\tevil:f" in out
    assert "recipes left out\ttoy:toy" in out
    assert "--transform evil:f" in err
    status, out, _ = shell("augcache verify $S --recompute 6 --transform toy:toy", store, **env)
    assert (status, "recomputed: 6" in out, out.count("recipes left out\t")) == (1, True, 1)
    assert not (tmp_path / "taken").exists()
    status, _, err = shell("augcache verify $S --recompute 6 --transform nothing:here", store, **env)
    assert status == 1
    assert "no recipe here is of the transform 'nothing:here'" in err
    assert shell("augcache verify $S --transform toy:toy", store)[0] == 2


@pytest.mark.parametrize(
    ("module", "body"),
    [
        ("lmdb", "1 / 0"),
        ("numba", "raise RuntimeError"),
        *((name, "import ctypes; ctypes.CDLL('libnothing_here.so.9')") for name in ("cv2", "click", "PIL", "lmdb")),
    ],
)
def test_a_broken_library_is_one_line(store, tmp_path, module, body):
    """It names the library and the repair; no traceback, no word of a bug."""
    (tmp_path / f"broken/{module}").mkdir(parents=True)
    (tmp_path / f"broken/{module}/__init__.py").write_text(body)
    env = {"PYTHONPATH": f"{tmp_path}/broken:{Path(__file__).parents[1]}"}
    status, _, err = shell(
        "augcache build images --transform saliencycut --store new.augcache --workers 0", store, **env
    )
    assert status == 1
    assert err.count("\n") == 1
    assert err.startswith(f"augcache: {module} is installed and cannot be imported (")
    assert "pip install --force-reinstall" in err


def test_what_is_left_of_opencv_is_told(store, tmp_path):
    """A folder cv2 without its files, as the removal of another OpenCV package leaves it, names the repair."""
    # A namespace package gives way to a whole one anywhere on the path, so the whole one is hidden.
    (tmp_path / "rest/cv2/aruco").mkdir(parents=True)
    (tmp_path / "rest/sitecustomize.py").write_text(
        "import sys\nfrom importlib.machinery import PathFinder\n"
        "class Hidden:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
        f"        return PathFinder.find_spec(name, [{str(tmp_path / 'rest')!r}]) if name == 'cv2' else None\n"
        "sys.meta_path.insert(0, Hidden)\n"
    )
    for command in ("preview $S", "build images --transform saliencycut --store new.augcache"):
        status, _, err = shell(f"augcache {command}", store, PYTHONPATH=f"{tmp_path}/rest:{Path(__file__).parents[1]}")
        assert (status, err.count("\n")) == (1, 1)
        assert "pip install --force-reinstall --no-deps opencv-contrib-python-headless" in err


# -- outputs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(("command", "name"), [("report", "r.html"), ("preview", "s.png")])
def test_a_full_disk_leaves_the_file_that_was_there(store, small_disk, command, name):
    """The older file stays, nothing else is left, and one line says why."""
    (small_disk / name).write_text("good")
    (small_disk / "ballast").write_bytes(bytes(48 << 10))
    status, out, err = run_main(command, store, "-o", small_disk / name, "--count", "6")
    assert (status, out, err.count("\n")) == (1, "", 1), err
    assert "No space left on device" in err
    assert (small_disk / name).read_text() == "good"
    assert sorted(os.listdir(small_disk)) == sorted(["ballast", name])


@pytest.mark.parametrize("format", ["png", "webdataset", "parquet"])
def test_an_export_to_a_full_disk_leaves_nothing_half_written(store, small_disk, format):
    """Every file that is there is whole."""
    (small_disk / "ballast").write_bytes(bytes(60 << 10))
    status, _, err = run_main("export", store, small_disk / "out", "--format", format, "--quiet")
    assert (status, err.count("\n")) == (1, 1)
    assert "No space left on device" in err
    assert not list(small_disk.rglob("*.part"))
    (small_disk / "ballast").unlink()
    assert run_main("export", store, small_disk / "out", "--format", format, "--quiet")[0] == 0


def test_a_file_is_written_as_by_a_plain_open(store, tmp_path):
    """The umask, the mode of an older file, links and write protection are heeded; pipes and stdout get the bytes."""
    new, old, link, target = (tmp_path / name for name in ("new.html", "old.html", "link.html", "far/target.html"))
    target.parent.mkdir()
    link.symlink_to("far/target.html")
    old.write_text("x")
    old.chmod(0o640)
    mask = os.umask(0o027)
    for output in (new, old, link):
        assert run_main("report", store, "-o", output)[1].strip() == str(output)
    os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in (new, old, target)] == [0o640, 0o640, 0o640]
    assert link.is_symlink()
    assert target.read_text().startswith("<!doctype html>")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got = subprocess.Popen(["cat", fifo], stdout=-1)
    assert run_main("report", store, "-o", fifo)[:2] == (0, "")
    page = got.communicate(timeout=60)[0]
    assert page.startswith(b"<!doctype html>")
    assert page.endswith(b"</html>\n")
    for line in ("augcache report $S -o /dev/stdout", "augcache report $S -o /dev/stdout > all; cat all"):
        assert shell(line, store)[1].endswith("</html>\n")
    shell("augcache preview $S -o /dev/stdout > sheet.png", store)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "sheet.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.parametrize("output", ["folder", "no/such/r.html", "file.txt/r.html", LONG + ".png", "x.nothing", "x.fli"])
def test_an_output_that_cannot_be(store, tmp_path, output):
    """A folder, a missing folder, a name that is too long or of no format: one line, and nothing is made."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for command in ("preview", "report"):
        if command == "report" and output.startswith("x."):
            continue
        status, out, err = run_main(command, store, "-o", output, cwd=tmp_path)
        assert (status, out, err.count("\n")) == (1, "", 1), err
    status, out, err = run_main("export", store, "file.txt", cwd=tmp_path)
    assert (status, out) == (1, "")
    assert "file.txt: a file, not a folder" in err
    assert sorted(tmp_path.rglob("*")) == before


def test_killed_and_concurrent_writers(tmp_path):
    """What killed writers leave does not pile up; of several at once every result is whole."""
    from augcache.whole_file import write_whole

    target = tmp_path / "r.html"
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            write_whole(target, b"half")
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert len(os.listdir(tmp_path)) == 1
    write_whole(target, b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    children, until = [], time.monotonic() + 1
    for letter in b"abc":
        children.append(os.fork())
        if children[-1] == 0:
            while time.monotonic() < until:
                try:
                    write_whole(target, bytes([letter]) * 100_000)
                except BlockingIOError:
                    pass
                except BaseException:  # noqa: BLE001  # the parent must know
                    os._exit(1)
            os._exit(0)
    while time.monotonic() < until:
        data = target.read_bytes()
        assert data == b"whole" or (len(data) == 100_000 and len(set(data)) == 1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_ctrl_c_leaves_no_half_of_a_file(tmp_path):
    """An interrupt while a file is written removes what there is of it."""
    from augcache import whole_file

    target = tmp_path / "r.html"
    target.write_text("good")
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        real = os.write
        os.write = lambda file, data: (real(file, data[:1]), os.kill(os.getpid(), signal.SIGINT))[0]
        try:
            whole_file.write_whole(target, b"half")
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert target.read_text() == "good"


def test_streams_take_any_text():
    """The classes of stdout and stderr escape what their encoding lacks."""
    from augcache.cli.streams import _Stream

    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = _Stream(1, file, must=True)
    stream.write("ä\ud800\n")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe4\\ud800\n"


def test_images_of_the_same_pixels_in_an_export(tmp_path, store, images):
    """Each row has a file of its own, and the counts are those of the files."""
    for name in ("a/copy.png", "a/copy2.png", "b/copy.png"):
        shutil.copy(images / "a/0.png", images / name)
    build(images, TOY, store, workers=0)
    for kept in (0, 9):
        status, out, err = run_main("export", store, tmp_path / "out", "--json")
        told = json.loads(out)
        assert (status, told["total"], told["written"], told["kept"]) == (0, 9, 9 - kept, kept), err
        index = json.loads((tmp_path / "out/index.json").read_text())
        assert len({line["file"] for line in index}) == 9 == len(list((tmp_path / "out").rglob("*.png")))
    write_image(images / "a/0.png", 99)
    shutil.rmtree(store)
    build(images, TOY, store, workers=0)
    assert run_main("export", store, tmp_path / "out")[0] == 0
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert {line["file"] for line in index} == {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")
    }

"""Worker processes of this machine: what transforms do to them, and what is left when their parent is killed."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import worker_processes, write_image
from PIL import Image
from stores import contents, counts

from augcache import Recipe, Store, build
from augcache.building import memory, workers
from augcache.building.batches import work_on
from augcache.building.build import resize
from augcache.building.by_input import look
from augcache.building.engines.engine import WorkerError
from augcache.building.workers import Large, open_pool
from augcache.errors import RecipeError
from augcache.sources import FileItem

TESTS = str(Path(__file__).parents[1])


def write_red(folder: Path, reds) -> None:
    """One image for each first red value, named by it."""
    folder.mkdir()
    for red in reds:
        pixels = np.full((4, 4, 3), 100, np.uint8)
        pixels[0, 0] = red
        Image.fromarray(pixels).save(folder / f"{red:03d}.png")


def processes_with(mark: str) -> list[int]:
    """Every process that has a mark in its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended, or is another user's
    return found


def wait_for(condition, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds} s in vain")


def test_whatever_a_transform_does_costs_its_own_image_alone(tmp_path):
    """Exits, odd exceptions, odd results, signals, files, forks and threads: each other image has its record."""
    reds = [*hostile.DEEDS, *range(100, 120)]
    write_red(tmp_path / "p", reds)
    report = build(tmp_path / "p", Recipe("hostile:hostile"), tmp_path / "s.augcache", workers=2)
    reasons = {failure.name: failure.reason for failure in Store(report.store).failures()}
    expected = {f"{red:03d}.png": reason for red, (_, reason) in hostile.DEEDS.items() if reason is not None}
    assert reasons.keys() == expected.keys()
    assert [name for name, reason in expected.items() if not reasons[name].startswith(reason)] == []
    assert counts(report) == (len(reds) - len(expected), 0, len(expected))
    assert worker_processes(os.getpid()) == []
    assert len(Store(report.store)) == report.computed


@pytest.mark.parametrize("options", [["--workers", 2], ["--workers", 0]], ids=str)
def test_what_a_transform_prints_is_no_output_of_ours(options, tmp_path, run_cli):
    """Python's print, C's write and a shell's echo go to stderr; stdout is one JSON object."""
    write_red(tmp_path / "p", [25, 100, 101])
    done = run_cli("build", tmp_path / "p", "--transform", "hostile:hostile", "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == 3
    assert all(text in done.stderr for text in ("printed", "written", "put by C", "from a shell"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; print('hello'); sys.exit(0)", "importing its module raised SystemExit: 0"),
        ("1 / 0", "importing its module raised ZeroDivisionError: division by zero"),
        ("def (", "broken.py, line 1: invalid syntax; mend it"),
    ],
)
def test_a_transform_that_cannot_be_imported_is_one_line(text, said, tmp_path, images, run_cli):
    """Exit 1, one line, nothing on stdout, and no store."""
    (tmp_path / "broken.py").write_text(text + "\n")
    done = run_cli("build", images, "--transform", "broken:f", "--json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "images.augcache").exists()


@pytest.mark.parametrize("how", ["sleep", "lock"])
def test_a_transform_that_never_returns_is_a_failure(how, tmp_path):
    """Its worker is killed, also where it holds the interpreter; all others are computed."""
    write_red(tmp_path / "p", [7, *range(100, 112)])
    recipe = Recipe("hostile:hang", how=how, only=7)
    report = build(tmp_path / "p", recipe, tmp_path / "s.augcache", workers=2, timeout=3)
    assert counts(report) == (12, 0, 1)
    [failure] = Store(report.store).failures()
    assert (failure.name, failure.reason) == ("007.png", "took longer than 3 s")


def test_resize_takes_a_timeout_and_no_process_needs_workers(images, tmp_path):
    """The same option; what cannot be kept is refused."""
    assert counts(resize(images, Recipe("resize"), tmp_path / "s.augcache", workers=1, timeout=60)) == (6, 0, 0)
    with pytest.raises(RecipeError, match="give seconds above 0"):
        build(images, Recipe("toy:toy"), tmp_path / "s.augcache", timeout=0)
    with pytest.raises(Exception, match="leave out the timeout"):
        build(images, Recipe("toy:toy"), tmp_path / "s.augcache", timeout=1, workers=0)


def test_silence_is_told_with_the_names(tmp_path, monkeypatch, capsys):
    """Where no result comes, the progress names the images that the workers are at, escaped."""
    from augcache.cli import console

    monkeypatch.setattr(workers, "SILENCE", 0.5)
    write_red(tmp_path / "p", [7, 100, 101])
    (tmp_path / "p/007.png").rename(tmp_path / "p/\x1b[31m.png")
    seen = []
    with console.show("hang") as show:

        def progress(now):
            seen.extend(now.waiting)
            show(now)

        recipe = Recipe("hostile:hang", only=7)
        build(tmp_path / "p", recipe, tmp_path / "s.augcache", workers=1, timeout=4, progress=progress)
    assert "\x1b[31m.png" in {name for name, _ in seen}
    assert max(seconds for _, seconds in seen) > 0.5
    said = capsys.readouterr().err
    assert "the workers are at \\x1b[31m.png" in said
    assert "\x1b[31m" not in said


@pytest.mark.parametrize("how", ["sleep", "lock", "child"])
def test_nothing_outlives_a_parent_that_is_killed(how, tmp_path):
    """kill -9 of the parent alone: a shell's pipe ends, and no process and no file in /dev/shm is left."""
    write_red(tmp_path / "p", range(100, 112))
    mark = f"AUGCACHE_TEST_MARK={os.getpid()}-{how}"
    arguments = ["--transform", "hostile:hang", "-o", f"how={how}", "--store", tmp_path / "s.augcache", "--workers", 2]
    command = [sys.executable, "-m", "augcache", "build", tmp_path / "p", *arguments]
    with subprocess.Popen(
        ["sh", "-c", '"$@" 2>&1 | cat', "sh", *map(str, command)],
        env={**os.environ, "PYTHONPATH": TESTS, **dict([mark.split("=")])},
        stdout=subprocess.PIPE,
    ) as shell:
        [parent] = wait_for(lambda: [pid for pid in processes_with(mark) if len(worker_processes(pid)) == 2])
        time.sleep(1.0)  # the workers are at their images, or still starting: nothing may depend on it
        os.kill(parent, signal.SIGKILL)
        shell.wait(timeout=5)
    assert processes_with(mark) == []
    assert [name for name in os.listdir("/dev/shm") if str(parent) in name] == []


@pytest.mark.slow
def test_what_a_build_has_finished_outlives_any_kill(tmp_path):
    """kill -9 of the parent alone at several moments: what was committed stays, and the same command ends the job."""
    for index in range(60):
        write_image(tmp_path / f"p/{index:02d}.png", index)
    recipe, path = Recipe("toy:slow", seconds=0.1), tmp_path / "s.augcache"
    options = ["--transform", "toy:slow", "-o", "seconds=0.1", "--store", str(path), "--workers", "2"]
    kept = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "augcache", "build", str(tmp_path / "p"), *options, "--quiet"],
            env={**os.environ, "PYTHONPATH": TESTS},
        )
        while process.poll() is None and not ((path / "data.mdb").exists() and len(Store(path)) > kept):
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert len(Store(path)) >= kept
        kept = len(Store(path))
    report = build(tmp_path / "p", recipe, path, workers=2)
    assert report.computed == 60 - kept
    clean = Store(build(tmp_path / "p", recipe, tmp_path / "clean.augcache", workers=2).store)
    assert contents(Store(path)) == contents(clean)


@dataclass(frozen=True, slots=True)
class FaultyItem(FileItem):
    def load(self, max_pixels=0):
        raise ValueError("a fault of our own")


@pytest.mark.parametrize("count", [0, 2])
def test_a_fault_of_our_own_is_no_failure_of_an_image(count):
    """What our code raises by mistake is raised here, with the worker's traceback."""
    work = partial(work_on, look, 100, 100)

    with open_pool(workers=count) as pool, pytest.raises((WorkerError, ValueError), match="a fault of our own"):
        list(pool.run(work, [[FaultyItem("x", path="x")]]))


# -- large images -----------------------------------------------------------------------------------------------


def test_an_image_of_more_pixels_is_a_failure_before_it_is_decoded(tmp_path, run_cli):
    """--max-pixels, in every build of images."""
    write_image(tmp_path / "p/small.png", 1, (10, 10))
    write_image(tmp_path / "p/large.png", 2, (30, 10))
    write_image(tmp_path / "q/large.png", 2, (30, 10))
    for name, *options in (["build", "p", "--transform", "toy:toy"], ["resize", "p"], ["build-saliency", "q"]):
        store = tmp_path / f"{name}.augcache"
        options[0] = tmp_path / options[0]
        done = run_cli(name, *options, "--max-pixels", 299, "--store", store, "--workers", 1)
        assert done.returncode == 4, done.stderr
        [failure] = Store(store).failures()
        assert (failure.name, failure.reason) == ("large.png", "30 x 10 pixels; the most is 299")


def test_large_images_are_taken_few_at_a_time(monkeypatch):
    """All at once would need more memory than there is: first the others, then as many large ones as fit."""
    monkeypatch.setattr(memory, "available", lambda: 2 * 100 * memory.PIXEL_BYTES * 2)
    with open_pool(workers=3) as pool:
        seen = list(pool.run(put_off, [[1, 100], [2, 100], [3]], large=at_large))
    assert sorted(seen[:-2], key=str)
    assert [results for _, results in seen[-2:]] == [["large"], ["large"]]
    assert (memory.at_once(100, 3), memory.at_once(10**9, 3), memory.at_once(1, 3)) == (2, 1, 3)


def put_off(jobs):
    return [Large(job) if job >= 100 else job for job in jobs]


def at_large(jobs):
    return ["large" for _ in jobs]


def test_a_build_of_large_images_gives_the_same(images, tmp_path, monkeypatch):
    """Images that are put off have the same records and rows, and are not counted twice."""
    clean = Store(build(images, Recipe("toy:toy"), tmp_path / "clean.augcache", workers=0).store)
    monkeypatch.setattr(memory, "FEWEST_PIXELS", 10)
    monkeypatch.setattr(memory, "MOST_PIXELS", 10)
    for count in (0, 2):
        report = build(images, Recipe("toy:toy"), tmp_path / f"{count}.augcache", workers=count)
        assert counts(report) == (6, 0, 0)
        assert contents(Store(report.store)) == contents(clean)
        assert list(Store(report.store).sources()) == list(clean.sources())
    copies = resize(images, Recipe("resize", width=8, height=8), tmp_path / "copies.augcache", workers=2)
    assert counts(copies) == (6, 0, 0)


# -- limits of the system -----------------------------------------------------------------------------------------


def test_a_limit_on_the_size_of_files_is_said(tmp_path):
    """`ulimit -f`: one line that names it; what was committed stays."""
    for index in range(40):
        write_image(tmp_path / f"p/{index:02d}.png", index, (300, 300))
    done = subprocess.run(
        [sys.executable, "-m", "augcache", "resize", tmp_path / "p", "--size", "300", "--workers", "1", "--quiet"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "ulimit -f" in line

"""Long work is pleasant: watching, stopping, logging, completing; and what is said fits the screen."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from conftest import write_image
from hypothesis import given
from hypothesis import strategies as st

from augcache import Store
from augcache.cli.exit_codes import broken
from augcache.progress import Progress
from augcache.storage.progress_note import running
from augcache.storage.runs import runs
from augcache.text import duration_text, pace_text, short_path, size_text

TESTS = Path(__file__).parents[1]
SLOW = ("--transform", "toy:slow", "-o", "seconds=0.2", "--workers", "1")


@pytest.fixture
def many(tmp_path) -> Path:
    """A folder with enough images to watch."""
    for index in range(40):
        write_image(tmp_path / f"p/{index:02d}.png", index)
    return tmp_path / "p"


def start(*arguments, **options) -> subprocess.Popen:
    """Start a command and leave it alone."""
    env = {**os.environ, "PYTHONPATH": str(TESTS), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "augcache", *map(str, arguments)]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=env, **options)


def on_a_terminal(command, *, columns=200, until="\0", fine=(0,), **options) -> str:
    """Run a command on a terminal to its end, or until it shows something; returns what it showed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        list(map(str, command)), stdin=slave, stdout=slave, stderr=slave, start_new_session=True, **options
    )
    os.close(slave)
    shown = b""
    while until.encode() not in shown:
        try:
            shown += os.read(master, 4096)
        except OSError:
            break
    else:
        os.killpg(process.pid, signal.SIGKILL)
        fine = (-signal.SIGKILL,)
    os.close(master)
    assert process.wait() in fine
    return shown.decode()


def wait_for(condition, seconds=60):
    """Wait until something is true, and return it."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return value


def test_a_second_terminal_watches_a_build(many, run_cli):
    """`augcache info` tells how far a running build is, and at what pace; nothing of it is left when the build ends."""
    store = many.with_name("p.augcache")
    process = start("build", many, *SLOW, start_new_session=True)
    now = wait_for(lambda: (running(store) or {}).get("computed") and running(store))
    assert (now["recipe"], now["total"], now["pid"], now["alive"]) == ("toy:slow", 40, process.pid, True)
    assert json.loads(run_cli("info", store, "--json").stdout)["running"]["pid"] == process.pid
    assert re.search(
        r"^running: toy:slow, \d+ of 40 done, .*/s, about .* left \(process", run_cli("info", store).stdout, re.M
    )
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    line = run_cli("info", store).stdout.splitlines()[-1]
    assert line.startswith("running: stopped: toy:slow, ")
    assert line.endswith("run the same command again to go on")


def test_a_strange_note_of_a_running_build_does_no_harm(tmp_path, run_cli):
    """Whatever a stranger's store has in the place of the note, a pipe or a link too, `info` answers without it."""
    path = Store(tmp_path / "s.augcache", "w").path
    good = {"recipe": "x", "digest": "x", "host": "y", "pid": 1, "seconds": 1, "total": 2, "computed": 1, "reused": 0}
    good |= {"failed": 0}
    note = path / "running.json"
    note.write_text(json.dumps(good))
    assert running(path)["computed"] == 1
    for bad in ({"pid": 1 << 90}, {"total": "many"}, {"seconds": float("nan")}, {"host": "\x1b[31m"}, {"recipe": 3}):
        note.write_text(json.dumps(good | bad))
        assert running(path) is None
    note.write_text("[" * 4096)
    assert running(path) is None
    note.unlink()
    os.mkfifo(note)
    assert run_cli("info", path, timeout=60).returncode == 0
    note.unlink()
    note.symlink_to("/etc/hostname")
    assert running(path) is None


def test_a_build_in_the_background_of_a_script_can_be_stopped(many):
    """A shell without job control starts `command &` with SIGINT ignored; SIGTERM stops it and keeps what is done."""
    store = many.with_name("p.augcache")
    ignored = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731  # runs in the child alone
    process = start("build", many, *SLOW, preexec_fn=ignored)
    wait_for(lambda: (running(store) or {}).get("computed"))
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    told = re.search(r"interrupted: (\d+) of 40 are finished and kept in", err)
    assert 0 < int(told[1]) <= len(Store(store))
    assert running(store) is None
    [note] = runs(Store(store))
    assert (note.ended, note.computed) == ("interrupted", len(Store(store)))


def test_verbose_logs_and_quiet_is_quiet(images, run_cli):
    """-v logs failures as they come, -vv commits too, each on stderr; --quiet says nothing there."""
    (images / "a/bad.png").write_text("no image")
    arguments = ("build", images, "--transform", "toy:toy", "--workers", 0)
    out = run_cli(*arguments, "-vv")
    assert "INFO failed: a/bad.png: not an image that can be read" in out.stderr
    assert "DEBUG committed 6 records" in out.stderr
    assert "committed" not in out.stdout
    out = run_cli(*arguments, "-v")
    assert "INFO failed: a/bad.png" in out.stderr
    assert "DEBUG" not in out.stderr
    assert run_cli(*arguments, "--quiet").stderr == ""


def test_on_a_terminal_the_summary_is_all(images):
    """Somebody who watches gets a summary with where the time went; a pipe gets the result's fields as well."""
    command = [sys.executable, "-m", "augcache", "build", images, "--transform", "toy:toy", "--workers", "0"]
    env = {**os.environ, "PYTHONPATH": str(TESTS), "TERM": "dumb"}
    shown = on_a_terminal(command, env=env, cwd=images.parent)
    lines = [line for line in shown.splitlines() if line.strip()]
    assert re.fullmatch(r"6 computed, 0 reused, 0 failed in .* s, .*/s", lines[-3])
    assert re.fullmatch(r"Of that: read .* s, compute .* s, write .* s", lines[-2])
    assert lines[-1] == "Look at it: augcache report images.augcache -o report.html"
    assert "computed: 6" not in shown


@pytest.mark.parametrize("columns", [80, 40])
def test_no_word_is_broken_at_the_edge_of_a_terminal(images, columns):
    """The summary of a build and `info` are broken between words; what is longer than a line has one of its own."""
    command = [sys.executable, "-m", "augcache"]
    long = images.parent / ("a-store-with-a-long-name" * 2) / "s.augcache"
    long.parent.mkdir()
    (images / "a/bad.png").write_text("no image")
    env = {**os.environ, "PYTHONPATH": str(TESTS), "TERM": "dumb"}
    build = [*command, "build", images, "--store", long, "--workers", "0", "--transform", "toy:toy"]
    for arguments in (build, [*command, "info", long]):
        shown = on_a_terminal(arguments, columns=columns, env=env, fine=(0, 4))
        lines = shown[max(0, shown.find("6 computed")) :].splitlines()
        assert all(len(line) <= columns or " " not in line.strip() for line in lines), lines
        assert str(long) in " ".join(lines).split(), lines
        piped = subprocess.run(arguments, env=env, capture_output=True, text=True, check=False)
        assert any(len(line) > 80 for line in (piped.stdout + piped.stderr).splitlines())  # a pipe gets whole lines


@given(st.text("ab 日́", max_size=60), st.integers(1, 20))
def test_a_broken_line_has_all_its_words(line, width):
    """Nothing is lost, and no line is too long that has a place to break it."""
    lines = broken(line, width)
    assert " ".join(lines).split() == line.split()
    for each in lines:
        columns = sum({"日": 2, "́": 0}.get(char, 1) for char in each)
        assert columns <= width or len(each.split()) <= 1


def test_compiling_is_announced_only_where_it_happens(samples, tmp_path):
    """A first run says what it waits for; one that finds its kernels compiled does not."""
    command = [sys.executable, "-m", "augcache", "build-saliency", samples, "--limit", "1", "--store"]
    env = {**os.environ, "TERM": "xterm", "NUMBA_CACHE_DIR": str(tmp_path / "none")}
    assert "first run: compiles" in on_a_terminal([*command, tmp_path / "a.augcache"], env=env, until="compiles")
    del env["NUMBA_CACHE_DIR"]
    subprocess.run([*command, tmp_path / "b.augcache"], env=env, capture_output=True, check=True)
    shown = on_a_terminal([*command, tmp_path / "c.augcache"], env=env)
    assert "starting" in shown
    assert "compiles" not in shown


@pytest.mark.parametrize(("words", "found"), [("bu", "build-saliency"), ("report --rec", "--recipe")])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell, words, found):
    """Commands and options complete in each shell, by the line that the README names."""
    env = {**os.environ, "_AUGCACHE_COMPLETE": f"{shell}_complete", "COMP_WORDS": f"augcache {words}"}
    env["COMP_CWORD"] = words.split()[-1] if shell == "fish" else str(len(words.split()))
    code = "import sys; sys.argv[0] = 'augcache'; from augcache.cli.main import main; main()"
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert found in re.split(r"[\s,]+", out.stdout)
    assert f"_AUGCACHE_COMPLETE={shell}_source" in (TESTS.parent / "README.md").read_text()


def test_help_fits_the_screen(run_cli):
    """No line of the first help is longer than 80 columns, and no description is cut."""
    lines = run_cli("--help").stdout.splitlines()[1:]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.endswith("...")]


def test_words():
    """Sizes, durations and paces as people say them."""
    assert [size_text(n) for n in (0, 999, 1000, 163_840, 5e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 KB",
        "163.8 KB",
        "5.0 TB",
    ]
    assert [duration_text(s) for s in (0.04, 12.3, 61, 3700, 3 * 86400)] == [
        "under 0.1 s",
        "12 s",
        "1 min 1 s",
        "1 h 1 min",
        "3 days",
    ]
    assert pace_text(10, 20, 5) == "2.0/s, about 10 s left"
    assert pace_text(1, 1, 60) == "1.0/min, about 1 min 0 s left"
    assert pace_text(0, 5, 1) == ""
    assert short_path(Path.cwd() / "x/y") == "x/y"
    assert short_path("/elsewhere/x") == "/elsewhere/x"
    assert Progress(5, computed=1, reused=2, failed=1).worked == 2

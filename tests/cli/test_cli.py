import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_image
from PIL import Image

from augcache import Store


def test_the_main_job(run_cli, samples, tmp_path):
    """Build, look, ask, draw: the commands of the README on real photographs."""
    store = tmp_path / "s.augcache"
    out = run_cli("build-saliency", samples, "--store", store, "--json", "--limit", 4)
    report = json.loads(out.stdout)
    assert out.returncode == 0, out.stderr
    assert (report["total"], report["computed"], report["reused"], report["failed"]) == (4, 4, 0, 0)
    assert report["store"] == str(store)
    assert report["seconds"] > 0
    info = json.loads(run_cli("info", store, "--json").stdout)
    assert (info["entries"], info["sources"], info["failures"]) == (4, 4, 0)
    assert set(info["recipes"][0]) >= {"digest", "transform", "version", "params", "entries"}
    out = run_cli("preview", store, "--source", samples, "-o", tmp_path / "sheet.png")
    assert out.returncode == 0, out.stderr
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000
    assert len(Image.open(tmp_path / "sheet.png").convert("RGB").getcolors(2**24)) > 1000


def test_a_transform_of_ones_own(run_cli, images, tmp_path):
    """Any marked function is built with its options; twice computes nothing; other options a new recipe."""
    args = ("build", images, "--transform", "toy:toy", "--json", "--workers", 1)
    assert json.loads(run_cli(*args).stdout)["computed"] == 6
    assert json.loads(run_cli(*args).stdout)["reused"] == 6
    assert json.loads(run_cli(*args, "-o", "shift=5", "-o", "note=word").stdout)["computed"] == 6
    info = json.loads(run_cli("info", tmp_path / "images.augcache", "--json").stdout)
    assert [recipe["params"] for recipe in info["recipes"]].count({"shift": 5, "note": "word"}) == 1


def test_a_transform_in_the_current_folder_is_found(run_cli, images, tmp_path):
    """A module beside the user is importable, as with python -m."""
    (tmp_path / "mine.py").write_text(
        "from augcache import transform\n@transform(version=1)\ndef red(image):\n    return {'red': image[..., 0]}\n"
    )
    out = run_cli("build", images, "--transform", "mine:red", "--workers", 2, cwd=tmp_path)
    assert out.returncode == 0, out.stderr


def test_some_failures_end_with_four_and_are_listed(run_cli, images, tmp_path):
    """A bad file is named with its reason, and the exit status tells scripts."""
    (images / "a/bad.jpg").write_text("no image")
    out = run_cli("build", images, "--transform", "toy:toy", "--workers", 1)
    assert out.returncode == 4
    assert "1 failed" in out.stderr
    assert f"augcache failures {tmp_path / 'images.augcache'}" in out.stderr
    out = run_cli("failures", tmp_path / "images.augcache")
    assert out.stdout == "a/bad.jpg\tnot an image that can be read\n"
    assert out.returncode == 0
    [failure] = json.loads(run_cli("failures", tmp_path / "images.augcache", "--json").stdout)
    assert failure["name"] == "a/bad.jpg"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build-saliency", "nowhere"], 1, "nowhere: no such folder"),
        (["build-saliency", "empty"], 1, "empty: no images in this folder"),
        (["build-saliency", "file.txt"], 1, "file.txt: a file, not a folder"),
        (["build-saliency", "good", "--store", "file.txt"], 1, "file.txt: a file, not a store"),
        (["build-saliency", "good", "--store", "good"], 1, "a folder with other things in it"),
        (["build-saliency", "good", "--method", "guess"], 1, "method"),
        (["build-saliency", "good", "--colour"], 2, "No such option"),
        (["build-saliency"], 2, "Missing argument"),
        (["build-saliency", "good", "--workers", "-2"], 2, "--workers"),
        (["build", "good", "--transform", "nothing"], 1, "no transform 'nothing'"),
        (["build", "good", "--transform", "toy:toy", "-o", "shfit=1"], 1, "no parameter 'shfit'"),
        (["build", "good", "--transform", "toy:toy", "-o", "shift"], 2, "KEY=VALUE"),
        (["paint"], 2, "No such command"),
        (["info", "nowhere.augcache"], 1, "nowhere.augcache: no store there"),
        (["info", "file.txt"], 1, "a file, not a store"),
        (["failures", "empty"], 1, "not an augcache store"),
        (["preview", "nowhere.augcache"], 1, "no store there"),
    ],
)
def test_a_mistake_is_one_clear_line(run_cli, tmp_path, arguments, code, message):
    """What, where and what next; the right exit status; no traceback; nothing half-written."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    write_image(tmp_path / "good/x.png", 1)
    before = sorted(tmp_path.rglob("*"))
    out = run_cli(*arguments, cwd=tmp_path)
    assert out.returncode == code, out.stderr
    assert message in out.stderr
    assert "Traceback" not in out.stderr
    assert out.stdout == ""
    if code == 1:
        assert out.stderr.count("\n") == 1
        assert out.stderr.startswith("augcache: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    """An interrupt ends with 130 and one line, and the same command goes on."""
    for index in range(30):
        write_image(tmp_path / f"p/{index:02d}.png", index)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [
        sys.executable,
        "-m",
        "augcache",
        "build",
        str(tmp_path / "p"),
        "--transform",
        "toy:slow",
        "--workers",
        "2",
    ]
    command += ["-o", "seconds=0.25"]
    process = subprocess.Popen(command, stderr=-1, stdout=-1, text=True, env=env, start_new_session=True)
    store = tmp_path / "p.augcache"
    for _ in range(300):
        time.sleep(0.1)
        if (store / "data.mdb").exists() and len(Store(store)) > 3:
            break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    done = len(Store(store))
    told = re.fullmatch(rf"interrupted: (\d+) of 30 are finished and kept in {store}; run the same command .*\n", err)
    assert 3 < int(told[1]) <= done
    report = json.loads(subprocess.run([*command, "--json"], capture_output=True, env=env, check=True).stdout)
    assert (report["computed"], report["reused"]) == (30 - done, done)


def test_progress_is_live_on_a_terminal(images):
    """On a terminal a bar is drawn and taken away; elsewhere no control characters are written."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TERM": "xterm", "COLUMNS": "80"}
    env.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "augcache", "build", str(images), "--transform", "toy:toy", "--workers", "0"]
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stderr=slave, stdout=subprocess.DEVNULL, env=env)
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    assert process.wait() == 0
    assert b"6/6" in shown
    assert b"\x1b[" in shown
    out = subprocess.run(command, capture_output=True, env=env, check=True)
    assert b"\x1b" not in out.stderr + out.stdout


def test_help_is_quick_and_loads_no_torch():
    """augcache --help imports neither torch nor cv2, numba or joblib."""
    code = (
        "import sys\nfrom augcache.cli.main import main\nsys.argv = ['augcache', '--help']\n"
        "try: main()\nexcept SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'cv2', 'numba', 'joblib', 'av', 'rich'} & set(sys.modules)\nassert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

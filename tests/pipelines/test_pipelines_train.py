"""Each pipeline runs to its end on a small sample, in a process of its own, from files to what the network learnt."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, TORCHVISION_OPS

PIPELINES = REPOSITORY / "pipelines"
SCRIPTS = sorted(path.stem for path in PIPELINES.glob("*.py") if "__main__" in path.read_text())
missing = [
    name for name in ("lightly", "timm", "torchvision", "sklearn", "lightning", "transformers", "accelerate")
    if importlib.util.find_spec(name) is None
]  # fmt: skip
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install 'augcache[train]'")


def run(script, *options, cwd):
    """Run a script with --smoke; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(TORCHVISION_OPS), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("AUGCACHE_STORE", None)
    command = [sys.executable, PIPELINES / f"{script}.py", *map(str, options)]
    out = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_smoke(script, tmp_path):
    """Without a download: stores, trains and evaluates; leaves nothing behind where it was started."""
    assert "loss" in run(script, "--smoke", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["simclr", "byol", "moco", "swav", "barlowtwins"])
def test_methods_on_a_folder(method, images, tmp_path):
    """Every method trains, on a folder of one's own, which stays as it was."""
    before = sorted(tmp_path.rglob("*"))
    out = run("pv_saliency", images, "--smoke", "--method", method, "--policy", "saliency+jitter", cwd=tmp_path)
    assert "linear probe" in out
    assert sorted(tmp_path.rglob("*")) == before


def test_background_removal_and_saved_weights(tmp_path):
    """Views of the cut come from the store; what was trained is kept where --save says."""
    run("coco_byol", "--smoke", "--background", 1, "--save", "backbone.pt", cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["backbone.pt"]


def test_policies_on_copies(tmp_path):
    """Saliency of the copies is computed where a policy needs it, and found."""
    assert "loss" in run("inat64", "--smoke", "--policy", "saliency0.5+default", cwd=tmp_path)


def test_a_folder_is_asked_for(tmp_path):
    """Without a folder and without --smoke nothing is trained by surprise."""
    command = [sys.executable, PIPELINES / "pv_saliency.py"]
    environment = {**os.environ, "PYTHONPATH": str(TORCHVISION_OPS)}
    out = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert out.returncode == 2
    assert "--smoke" in out.stderr

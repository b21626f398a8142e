"""Each pipeline runs to its end on a small sample, in a process of its own, from files to what the network learnt."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY, TORCHVISION_OPS

PIPELINES = REPOSITORY / "pipelines"
SCRIPTS = sorted(path.stem for path in PIPELINES.glob("*.py") if "read_arguments(__doc__" in path.read_text())
missing = [
    name for name in ("lightly", "timm", "torchvision", "sklearn", "lightning", "transformers", "accelerate")
    if importlib.util.find_spec(name) is None
]  # fmt: skip
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install 'augcache[train]'")


def run(script, *options, cwd):
    """Run a script with --smoke; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(TORCHVISION_OPS), "HF_HUB_OFFLINE": "1"}
    environment.pop("AUGCACHE_STORE", None)
    command = [sys.executable, PIPELINES / f"{script}.py", *map(str, options)]
    out = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_smoke(script, tmp_path):
    """Without a download: stores, trains and evaluates; leaves nothing behind where it was started."""
    assert "loss" in run(script, "--smoke", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Each pipeline runs to its end out of the box, without a download."""

import subprocess
import sys
from pathlib import Path

import pytest

PIPELINES = sorted((Path(__file__).parents[1] / "pipelines").glob("*.py"))


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_runs_on_a_small_sample(path, tmp_path):
    """From raw data to batches of a torch loader, leaving nothing behind where it was started."""
    out = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip()
    assert list(tmp_path.iterdir()) == []

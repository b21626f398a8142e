"""Each pipeline runs to its end out of the box, without a download."""

import subprocess
import sys
from pathlib import Path

import pytest

# Those that train are in test_pipelines_train.py.
PIPELINES = [
    path
    for path in sorted((Path(__file__).parents[1] / "pipelines").glob("*.py"))
    if "__main__" in path.read_text() and "read_arguments(" not in path.read_text()
]


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_runs_on_a_small_sample(path, tmp_path):
    """From raw data to batches of a torch loader, leaving nothing behind where it was started."""
    out = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip()
    assert list(tmp_path.iterdir()) == []

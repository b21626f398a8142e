"""Shared fixtures: the sample images of the repository, and the larger test data where it is at hand."""

import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import xxhash
from PIL import Image

from augcache import Recipe, build
from augcache.records import codec

REPOSITORY = Path(__file__).parents[1]

# For the processes that tests start: on PYTHONPATH, as `sitecustomize`. For the tests themselves: here.
TORCHVISION_OPS = REPOSITORY / "tests" / "torchvision_ops"
runpy.run_path(str(TORCHVISION_OPS / "sitecustomize.py"))


def pytest_addoption(parser):
    parser.addoption("--write-golden", action="store_true", help="write golden digests and the command reference anew")


@pytest.fixture
def samples() -> Path:
    return REPOSITORY / "samples"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    path = REPOSITORY.parent / "shared" / "data"
    if not path.exists():
        pytest.skip("the larger test data (shared/data beside the repository) is not here")
    return path


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder with six distinct small images in two classes."""
    root = tmp_path / "images"
    for index in range(6):
        write_image(root / f"{'ab'[index % 2]}/{index}.png", index)
    return root


@pytest.fixture
def built(images) -> Path:
    """The folder of `images`, beside its store."""
    build(images, Recipe("toy:toy"), workers=0)
    return images


@pytest.fixture
def store(built) -> Path:
    return built.with_suffix(".augcache")


def sealed(body: bytes) -> bytes:
    """Make a record of what follows its checksum, however malformed that is."""
    return codec.MAGIC + xxhash.xxh3_64_intdigest(body).to_bytes(8, "little") + body


def forged(record: dict[str, np.ndarray]) -> bytes:
    """Encode a record that `encode` would refuse, as a stranger may."""
    with mock.patch.object(codec, "_check_legal"):
        return codec.encode(record)


def write_image(path: Path, seed: int, size: tuple[int, int] = (24, 20)) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def worker_processes(pid: int) -> list[int]:
    """Processes below one that work on jobs: those that a build on this machine has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"process_worker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue  # it has ended
    return found


@pytest.fixture
def run_cli(monkeypatch):
    """Run the command line in a process of its own, as a person does."""

    def run(*arguments, cwd=None, env=None, timeout=120):
        import os

        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "NO_COLOR": "1", **(env or {})}
        environment.pop("AUGCACHE_STORE", None) if not env else None
        return subprocess.run(
            [sys.executable, "-m", "augcache", *map(str, arguments)],
            capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout, check=False,
        )  # fmt: skip

    return run

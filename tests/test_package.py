"""What is published installs: wheel and sdist build clean, hold what they must, and work in an empty environment."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]
IN_PACKAGE = {"augcache/py.typed", "augcache/pages/page.html", "augcache/pages/page.css", "augcache/pages/page.js"}


def run(*command, **options):
    """Run a command; what it says is shown where it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(what: str, source: Path, out: Path) -> Path:
    """Build as any front end does, by the hooks that pyproject.toml names, with this environment's setuptools."""
    pytest.importorskip("setuptools", reason="setuptools is not installed here")
    code = f"from setuptools import build_meta; print('built', build_meta.build_{what}({str(out)!r}))"
    return out / run(sys.executable, "-c", code, cwd=source).split("built ")[-1].strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel that is built from the sdist alone, as installers do where there is no wheel."""
    folder = tmp_path_factory.mktemp("package")
    tracked = run("git", "ls-files", "-z", cwd=REPOSITORY).split("\0")
    clean = folder / "clone"
    for name in filter(None, tracked):
        if (REPOSITORY / name).is_file():
            (clean / name).parent.mkdir(parents=True, exist_ok=True)
            (clean / name).write_bytes((REPOSITORY / name).read_bytes())
    with tarfile.open(build("sdist", clean, folder)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(folder / "unpacked", filter="data")
    assert names >= IN_PACKAGE | {"README.md", "LICENSE", "pyproject.toml"}
    [source] = (folder / "unpacked").iterdir()
    return build("wheel", source, folder)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    """Every module and data file is in it; tests, samples and caches are not."""
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = run("git", "ls-files", "augcache", cwd=REPOSITORY).split()
    assert names >= IN_PACKAGE | {name for name in modules if (REPOSITORY / name).is_file()}
    assert {name.split("/")[0] for name in names} <= {"augcache", wheel.name.split("-py3")[0] + ".dist-info"}
    assert not [name for name in names if "__pycache__" in name]


def test_an_empty_environment(wheel, samples, tmp_path):
    """The command, `python -m augcache` and the import work from the installed wheel, away from the repository, and
    tell one version."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env/bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    # The dependencies are those of this environment; a folder named in a .pth file brings no editable installs along.
    site = Path(run(python, "-c", "import site; print(site.getsitepackages()[0])").strip())
    (site / "dependencies.pth").write_text(str(Path(np.__file__).parents[1]))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AUGCACHE_STORE")}
    here = {"cwd": tmp_path, "env": environment}
    told = run(python, "-c", "import augcache; print(augcache.__version__, augcache.__file__)", **here).split()
    assert Path(told[1]).is_relative_to(tmp_path / "env")
    assert wheel.name.split("-")[1] == told[0]
    assert run(tmp_path / "env/bin/augcache", "--version", **here) == f"augcache, version {told[0]}\n"
    assert run(python, "-m", "augcache", "--version", **here) == f"augcache, version {told[0]}\n"
    run(tmp_path / "env/bin/augcache", "resize", samples, "--store", "s.augcache", "--workers", "0", **here)
    run(tmp_path / "env/bin/augcache", "report", "s.augcache", **here)
    assert "page 1" not in (tmp_path / "report.html").read_text()
    assert 'id="data"' in (tmp_path / "report.html").read_text()

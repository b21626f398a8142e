"""Every public name is in the README, and has an example that runs."""

import doctest
import importlib
import inspect
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image
from video_variants import write_video

import augcache
from augcache import Recipe, build, extract_frames, resize

README = (Path(__file__).parents[1] / "README.md").read_text()
SECTION = README.partition("\n## Python reference\n")[2].partition("\n## ")[0]
NAMES = re.findall(r"^\| `([\w.]+)", SECTION, re.MULTILINE)
PUBLIC = sorted(set(augcache.__all__) - {"__version__"})
NEEDS_AN_EXTRA = {"policy_views"}  # torchvision's
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def named(name: str):
    """What a name of the reference stands for; without a module it is one of `augcache`."""
    if name == "augcache":
        return augcache
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(f"augcache.{module}") if module else augcache, last)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as the examples have it: four images in two classes, a video, and their stores."""
    root = tmp_path_factory.mktemp("examples")
    for index in range(4):
        write_image(root / f"images/{('cat', 'dog')[index // 2]}/{index + 1}.png", index, (80, 60))
    build(root / "images", Recipe("saliencycut"), workers=0)
    resize(root / "images", Recipe("resize", width=16, height=16), workers=0)
    write_video(root / "films/lion.mp4", frames=12)
    extract_frames(root / "films", Recipe("frame", every=4), workers=0)
    return root


def test_every_public_name_is_in_the_reference():
    """Nobody must read the code to learn what there is."""
    assert set(PUBLIC) <= set(NAMES), "add the name to the README's Python reference"
    assert set(augcache._HOMES) | {"__version__"} == set(augcache.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_reference_says_is_there(name):
    """No name of the reference is of the past, and each has a docstring that says what its parameters are."""
    found = named(name)
    assert inspect.getdoc(found), name
    if callable(found) and not inspect.isclass(found) and inspect.signature(found).parameters:
        assert "Parameters\n----" in inspect.getdoc(found), name


@pytest.mark.parametrize("name", ["augcache", *NAMES])
def test_examples_run(name, folder, tmp_path, monkeypatch):
    """The example of each public name gives what it says; names of the modules need not have one."""
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    known = {each: getattr(augcache, each) for each in PUBLIC} | {name.split(".")[-1]: named(name)}
    known |= {"np": np, "torch": torch, "Image": Image}
    finder = doctest.DocTestFinder(recurse=False)
    examples = [test for test in finder.find(named(name), name, globs=known) if test.examples]
    assert examples or "." in name, f"{name} has no example"
    for test in examples:
        assert "." in name or name in NEEDS_AN_EXTRA or not any("SKIP" in example.source for example in test.examples)
        said: list[str] = []
        failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
        assert not failed, "".join(said)

"""The README tells the truth: its code runs, and its command reference is what --help prints."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from conftest import TORCHVISION_OPS
from video_variants import write_video

from augcache.cli.commands import cli

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
NEEDS_TORCHVISION = re.compile(r"policy_views|output=\"masks\"")
START, END = "<!-- help -->\n", "<!-- /help -->"


def reference() -> str:
    """The command reference, made from the commands themselves."""
    parts = []
    for name, command in sorted(cli.commands.items()):
        context = click.Context(command, info_name=f"augcache {name}", max_content_width=100, terminal_width=100)
        parts.append(f"### augcache {name}\n\n```\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def test_the_command_reference_is_what_help_prints(pytestconfig):
    """Every command and option is in the README, in the words of --help."""
    text = README.read_text()
    before, rest = text.split(START)
    inside, after = rest.split(END)
    if pytestconfig.getoption("write_golden"):
        README.write_text(before + START + "\n" + reference() + "\n" + END + after)
        pytest.skip("written")
    assert inside.strip() == reference().strip(), "run `make golden` and look at the difference"


def test_every_block_runs(samples, tmp_path):
    """The code of the README runs from top to bottom in a fresh folder, on real images."""
    shutil.copytree(samples, tmp_path / "data/pv", ignore=shutil.ignore_patterns("*.md"))
    for path in list((tmp_path / "data/pv").rglob("*.jpg"))[::2]:
        path.unlink()
    write_video(tmp_path / "animal_kingdom/lion.mp4", frames=120)
    script = ["import subprocess, sys, os"]
    for language, code in BLOCKS:
        if language == "sh":
            for line in code.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == "augcache":
                    script.append(f"subprocess.run([sys.executable, '-m', 'augcache', *{words[1:]!r}], check=True)")
        elif code.startswith("# edges.py"):
            (tmp_path / "edges.py").write_text(code)
        elif code.startswith("# augcache/transforms/"):
            path = tmp_path / code.splitlines()[0].removeprefix("# augcache/")
            path.parent.mkdir()
            path.write_text(code)
            script.append(f"import augcache.transforms; augcache.transforms.__path__.append({str(path.parent)!r})")
        elif importlib.util.find_spec("torchvision") or not NEEDS_TORCHVISION.search(code):
            script.append(code)
    script.append("assert image is not None and next(iter(loader))")
    (tmp_path / "readme.py").write_text("\n".join(script))
    out = subprocess.run(
        [sys.executable, "readme.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(TORCHVISION_OPS)},
    )  # fmt: skip  # where, how, and with what
    assert out.returncode == 0, out.stderr
    assert "not writable" not in out.stderr, "torch warns in each worker and epoch of what a person copies from here"
    assert (tmp_path / "sheet.png").exists()


def test_links_and_files_exist():
    """No link of the README points at nothing."""
    text = README.read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (README.parent / target).exists(), target
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in headings, anchor


def test_make_targets_named_in_the_readme_exist():
    """`make demo` and the like are real."""
    makefile = (README.parent / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^)make (\w+)", README.read_text(), re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target

"""The shape of the package: imports point one way, and heavy libraries stay where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "augcache"

# Packages and single modules, from the ground up: each imports only from those before it.
ORDER = [
    "_version", "errors", "text", "progress", "paths", "whole_file", "extras", "user_code", "records", "images",
    "video", "recipe", "transforms", "storage", "sources", "building", "testing", "training", "pages", "pseudo_labels",
    "upkeep", "cli", "__main__", "__init__",
]  # fmt: skip  # a list of names
ONLY_IN = {
    "torch": {"training"},
    "lmdb": {"storage"},
    "joblib": {"building"},
    "distributed": {"building"},
    "ray": {"building"},
    "fsspec": {"sources"},
    "click": {"cli"},
    "rich": {"cli"},
    "av": {"video"},
    "numba": {"transforms", "records"},
}


def place(path: Path) -> str:
    """Package or single module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at its top, inside functions, or for types."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = {path: imports(path) for path in FILES}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}


def test_imports_point_down():
    """No package imports from one that stands on it."""
    rank = {name: number for number, name in enumerate(ORDER)}
    wrong = []
    for path, names in IMPORTS.items():
        own = place(path)
        assert own in rank, f"{path.name} has no place: add it to ORDER"
        for name in names:
            parts = name.split(".")
            other = parts[1] if parts[0] == "augcache" and len(parts) > 1 else own
            if other in rank and rank[other] > rank[own]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_no_modules_import_each_other():
    """There is no circle of imports, not inside a package either."""
    needs = {
        module: {found for name in IMPORTS[path] if (found := named(name)) and found != module}
        for module, path in MODULES.items()
        if module != "augcache"
    }
    done: set[str] = set()
    while needs:
        free = {module for module, wanted in needs.items() if wanted - {"augcache"} <= done}
        assert free, f"these import each other: {sorted(needs)}"
        done |= free
        needs = {module: wanted for module, wanted in needs.items() if module not in free}


def named(name: str) -> str | None:
    """Module that an import means: itself, or the one that a function or class comes from."""
    return name if name in MODULES else name.rpartition(".")[0] if name.rpartition(".")[0] in MODULES else None


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_heavy_library_is_imported_in_one_place(library):
    """Each outside library has one home, so that it can be replaced, and is not paid for elsewhere."""
    homes = {place(path) for path, names in IMPORTS.items() if any(name.split(".")[0] == library for name in names)}
    assert homes <= ONLY_IN[library]


def test_files_are_small():
    """A newcomer reads a file in one sitting."""
    lengths = sorted((len(path.read_text().splitlines()), path.name) for path in FILES)
    assert lengths[-1][0] <= 400, lengths[-1]
    assert lengths[len(lengths) // 2][0] <= 150


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import augcache", {"torch", "cv2", "numba", "joblib", "av", "decord"}),
        ("from augcache import Store, Recipe, build; Recipe('saliencycut')", {"torch", "numba"}),
        ("from augcache import HashedSaliencyDataset, SaliencyLookup", {"av", "decord", "joblib"}),
        ("import augcache.training.views", {"torch", "numba"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(code, absent):
    """Import costs are paid by those who use them: no torch in a build, no video library in a training."""
    code += f"\nimport sys; loaded = {absent!r} & set(sys.modules); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_build_workers_load_no_torch(images, tmp_path):
    """A worker process of a build has neither torch nor click."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from augcache import Recipe, Store, build
report = build({str(images)!r}, Recipe("toy:modules"), {str(tmp_path / "s.augcache")!r}, workers=2)
assert report.computed == 6 and "torch" not in sys.modules
store = Store(report.store)
for key in store.keys(Recipe("toy:modules")):
    names = set(str(store.get(Recipe("toy:modules"), key)["modules"]).split())
    assert not names & {{"torch", "click", "rich"}}, names
"""
    subprocess.run([sys.executable, "-c", code], check=True)

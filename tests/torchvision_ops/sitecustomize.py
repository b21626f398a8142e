"""Lets torchvision import where its compiled part does not load, as beside a torch of another build (CPU against CUDA).

Put on PYTHONPATH for the processes that tests start, and imported by conftest.py for the tests themselves. Only box
operations live in the compiled part, and no pipeline uses them. Where it does load, nothing is done.
"""

import sys
from importlib.machinery import PathFinder
from pathlib import Path


class _DefinesOps:
    """Import hook: just before torchvision's own import, define the two operators that it registers fakes for."""

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(name)
            if spec is not None and not _loads(Path(spec.origin).parent):
                _define()


def _loads(folder: Path) -> bool:
    import torch

    compiled = next(iter([*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]), None)
    try:
        torch.ops.load_library(str(compiled))
    except OSError:  # the libraries that it is linked to are not there
        return False
    return True


def _define() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.ops.torchvision_library = library  # the operators live as long as it does, and this module may not


sys.meta_path.insert(0, _DefinesOps())

"""Libraries that are not installed, or are broken: which, and how to mend it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib import metadata
from typing import Any

from augcache.errors import AugcacheError


def require(module: str, extra: str, what: str) -> Any:
    """Import a library of an extra; raises `AugcacheError` that says how to install it where it is absent or broken.

    Parameters
    ----------
    module : str
        Import path.
    extra : str
        The extra of augcache that brings it.
    what : str
        What needs it, for the error.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision beside another build of torch raises the latter
        raise AugcacheError(f"{what} needs {module} ({error}): pip install 'augcache[{extra}]'") from error


def check_opencv() -> None:
    """Import OpenCV, in a command that needs it; raises `AugcacheError` where it is missing, or a mere remainder.

    Its four packages (with or without "contrib" and "headless") all install the folder ``cv2``. Removing one of them
    takes the files of the others along, and leaves a folder that can be imported and holds nothing.
    """
    spec = importlib.util.find_spec("cv2")
    if spec is None:
        raise AugcacheError("OpenCV is not installed: pip install opencv-contrib-python-headless")
    if spec.origin is None:
        raise AugcacheError(
            "OpenCV's files are gone, as happens where another OpenCV package was uninstalled: "
            "pip install --force-reinstall --no-deps opencv-contrib-python-headless"
        )
    importlib.import_module("cv2")  # broken, it is one error here, and not one for each image


def broken_import(error: BaseException) -> str | None:
    """Say which library could not be imported and how to mend it; None where the error came from something else."""
    module = _imported(error)
    if module is None:
        return None
    package = module.partition(".")[0]
    reason = " ".join(str(error).split())[:300]
    if package in sys.stdlib_module_names:
        return f"this Python cannot import {module} ({type(error).__name__}: {reason}); install a complete Python"
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"{package} is not installed: pip install {package}"
    names = metadata.packages_distributions().get(package)
    repair = f"pip install --force-reinstall {names[0]}" if names else "mend it, or install it again"
    return f"{package} is installed and cannot be imported ({type(error).__name__}: {reason}): {repair}"


def _imported(error: BaseException) -> str | None:
    """Return the library, not of augcache, in whose import an error was raised."""
    at = error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_name == "<module>":
            name = str(at.tb_frame.f_globals.get("__name__"))
            if name.partition(".")[0] not in ("augcache", "__main__"):
                return name
        at = at.tb_next
    name = error.name or "" if isinstance(error, ImportError) else ""
    return name if name.partition(".")[0] not in ("augcache", "") else None

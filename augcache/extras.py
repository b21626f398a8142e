"""Libraries that augcache does without, until something is asked for that needs one."""

from __future__ import annotations

import importlib
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

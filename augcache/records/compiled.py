"""How the numeric kernels are compiled: once for each machine, kept on disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from numba import njit


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function when it is first called, without the interpreter lock, strict about floats.

    The machine code is kept beside the source, or in the user's cache folder (``NUMBA_CACHE_DIR``). Where neither can
    be written, as in some containers, every process compiles anew, which takes about twenty seconds for SaliencyCut and
    a second for a look-up, and says so.
    """
    return _compiled(function, None)


def kernel_for(*signatures: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for these types when its module is imported, so that forked workers find it ready."""
    return lambda function: _compiled(function, list(signatures))


def _compiled(function: Callable[..., Any], signatures: list[Any] | None) -> Any:
    try:
        return njit(signatures, cache=True, nogil=True)(function)
    except RuntimeError:
        warnings.warn(
            "augcache: no folder to keep compiled kernels in, so every process compiles them; "
            "set NUMBA_CACHE_DIR to one that can be written",
            stacklevel=3,
        )
        return njit(signatures, nogil=True)(function)


def is_kept(function: Any) -> bool:
    """Whether a kernel's machine code for this processor is kept already; else its first call compiles it."""
    if not hasattr(function, "targetctx"):
        return True  # NUMBA_DISABLE_JIT: there is none
    file = getattr(function._cache, "_cache_file", None)  # numba says it nowhere else; None where none can be kept
    try:
        kept = () if file is None else file._load_index()
    except Exception:  # noqa: BLE001  # a damaged file of numba's, which reads it as a pickle
        return False
    here = function.targetctx.codegen().magic_tuple()
    return any(made_for == here for _, made_for, _ in kept)

"""The one kind of pickle that CIFAR's Python version uses, read without importing or running anything it names."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from augcache.errors import SourceError

_LARGEST = 1 << 30


def read_pickled(data: bytes, what: str) -> dict[str, Any]:
    """Return a pickled dict's members: numbers, strings, lists, and uint8 arrays.

    Parameters
    ----------
    data : bytes
        The file.
    what : str
        Names it in an error.

    Raises
    ------
    SourceError
        If it is no pickle, or anything but a dict of numbers, strings, lists and uint8 arrays.
    """
    if len(data) > _LARGEST:
        raise SourceError(f"{what}: {len(data)} bytes are too many for a batch of CIFAR")
    try:
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}, not a dict")
        return {_text(key): member.array() if isinstance(member, _Array) else member for key, member in value.items()}
    except Exception as error:  # a pickle is a program: it can make the unpickler raise anything
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise SourceError(f"{what}: not a batch of CIFAR's Python version ({text})") from error


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


class _Array:
    """What numpy's arrays are pickled as; takes the state of a uint8 array in C order, and no other."""

    __slots__ = ("shape", "values")

    def __setstate__(self, state: Any) -> None:
        _, self.shape, dtype, is_fortran, self.values = state
        if not isinstance(dtype, _Uint8) or is_fortran or not isinstance(self.values, bytes):
            raise ValueError("an array that is not uint8 in C order")

    def array(self) -> np.ndarray:
        """Return the array; raises ValueError where the shape does not fit."""
        return np.frombuffer(self.values, np.uint8).reshape(self.shape)


class _Uint8:
    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment say nothing of single bytes."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _dtype(code: Any, *_: Any) -> _Uint8:
    if code not in ("u1", b"u1"):
        raise ValueError(f"an array of dtype {code!r}")
    return _Uint8()


def _encode(text: str, encoding: Any) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"text in {encoding!r}")
    return text.encode("latin-1")


_NAMED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _reconstruct,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,  # how Python 3 writes bytes in protocol 2
}


# The one written in Python: that in C takes memory for whatever index a pickle claims.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the table above; nothing is imported."""
        function = _NAMED.get((module, name))
        if function is None:
            raise ValueError(f"it asks for {module}.{name}, which a batch of CIFAR has no need of")
        return functools.partial(function)  # a new one: a pickle may set attributes of what it is given

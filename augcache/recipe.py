"""What a transform is, and the frozen name under which its results are stored."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xxhash

from augcache.errors import RecipeError
from augcache.user_code import described, not_to_stdout

Record = dict[str, np.ndarray]
Function = TypeVar("Function", bound=Callable[..., Any])

KINDS = ("maps", "saliency", "embedding", "image", "frame")
OWN_PIXELS = ("image", "frame")  # kinds whose results are found by their own pixels, not by those of their input

PLUG_INS = "augcache.transforms"  # the group of entry points of installed packages

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_BUILT_IN = re.compile(r"[a-z_]\w*")


def transform(
    *,
    version: int,
    kind: str = "maps",
    validate: Callable[..., None] | None = None,
    reduced: Callable[..., tuple[Record, np.ndarray]] | None = None,
) -> Callable[[Function], Function]:
    """Mark a function ``image, **params -> {name: array}`` as a transform.

    Parameters
    ----------
    version : int
        Part of the recipe's digest. Raise it whenever the same input gives another output.
    kind : {"maps", "saliency", "embedding", "image", "frame"}
        What its records are. "image" gives an ``image`` uint8 (H, W, 3) that takes the place of its input, and is
        stored under the key of its own pixels, as resized copies are. "frame" takes the path of a video and yields
        frames; see `augcache.transforms.frame`. All others are stored under the key of the image they were made of.
    validate : callable, optional
        Called with the complete parameters when a recipe is made; raises `RecipeError` for a
        value that is out of range, so that a bad value stops a build before its first image.
    reduced : callable, optional
        For kind "image": makes the same from a file that is decoded at a fraction of its size, and returns the record
        and the pixels that it is found by; see `augcache.transforms.resize`.

    Notes
    -----
    A transform takes one ``uint8 (H, W, 3)`` RGB image, has keyword parameters that are JSON values,
    each with a default, and is pure: the same image and parameters give the same bytes on every run.

    Examples
    --------
    >>> @transform(version=1)
    ... def mean(image, *, scale=1.0):
    ...     return {"mean": (image.mean((0, 1)) * scale).astype(np.float32)}
    >>> mean(np.full((2, 2, 3), 7, np.uint8))["mean"]
    array([7., 7., 7.], dtype=float32)
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise RecipeError(f"transform version {version!r}: give a whole number from 1 up")
    if kind not in KINDS:
        raise RecipeError(f"transform kind {kind!r}: give one of {', '.join(KINDS)}")

    def mark(function: Function) -> Function:
        _defaults(function)
        function.__augcache_version__ = version  # type: ignore[attr-defined]  # the mark itself
        function.__augcache_kind__ = kind  # type: ignore[attr-defined]
        function.__augcache_validate__ = validate  # type: ignore[attr-defined]
        function.__augcache_reduced__ = reduced  # type: ignore[attr-defined]
        return function

    return mark


def resolve(name: str) -> Callable[..., Record]:
    """Import the transform that `name` stands for.

    Parameters
    ----------
    name : str
        ``"saliencycut"`` (a module of augcache.transforms with a function of its name) or
        ``"package.module:function"``.

    Raises
    ------
    RecipeError
        If there is no such module or function, or it is not marked with `transform`.
    """
    path = import_path(name)
    module_name, _, function_name = path.partition(":")
    try:
        with not_to_stdout():
            module = importlib.import_module(module_name)
    except SyntaxError as error:
        raise RecipeError(
            f"transform {name!r}: {error.filename}, line {error.lineno}: {error.msg}; mend it, and run this again"
        ) from error
    except ModuleNotFoundError as error:
        # A module that exists but lacks one of its own imports must not read as a typing error.
        if _BUILT_IN.fullmatch(name) and error.name == module_name:
            known = ", ".join(
                module.name for module in pkgutil.iter_modules([str(Path(__file__).with_name("transforms"))])
            )
            raise RecipeError(f"no transform {name!r}; built in are {known}, your own is 'module:function'") from error
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise RecipeError(
                f"no transform {name!r}: there is no module {error.name!r}; check the spelling, "
                "and that it can be imported from here (PYTHONPATH)"
            ) from error
        raise RecipeError(f"transform {name!r}: its module needs {error.name!r}, which is not installed") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise RecipeError(f"transform {name!r}: importing its module raised {described(error)}") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise RecipeError(f"no transform {name!r}: module {module_name!r} has no function {function_name!r}")
    if not hasattr(function, "__augcache_version__"):
        raise RecipeError(f"{name!r} is not a transform: mark it with @augcache.transform(version=1)")
    return function  # type: ignore[no-any-return]  # getattr gives Any


def import_path(name: str) -> str:
    """Return ``"package.module:function"`` for a short or a full transform name."""
    if _BUILT_IN.fullmatch(name):
        return f"augcache.transforms.{name}:{name}"
    if _PATH.fullmatch(name):
        return name
    raise RecipeError(f"transform {name!r}: give a built-in name such as 'saliencycut', or 'package.module:function'")


def is_installed(transform: str) -> bool:
    """Whether a transform is one of augcache's own, or one that an installed package announces.

    Only such may be run for a store that names them. An installed package announces its own by an entry point of the
    group ``augcache.transforms``.

    Parameters
    ----------
    transform : str
        ``"package.module:function"``.
    """
    if re.fullmatch(r"augcache\.transforms\.([a-z_]\w*):\1", transform):
        return True
    from importlib import metadata  # slow to import

    return any(entry.value.replace(" ", "") == transform for entry in metadata.entry_points(group=PLUG_INS))


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword parameters of a transform after the image, with their defaults."""
    _, *parameters = inspect.signature(function).parameters.values()
    defaults = {}
    for parameter in parameters:
        if parameter.default is parameter.empty:
            raise RecipeError(
                f"transform {function.__qualname__}: parameter {parameter.name!r} needs a default, "
                "so that leaving it out has one meaning"
            )
        defaults[parameter.name] = parameter.default
    return defaults


def _canonical(params: Mapping[str, Any]) -> str:
    try:
        return json.dumps(params, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe parameters must be JSON values: {error}") from error


@dataclass(frozen=True)
class Recipe:
    """A transform, its version and its complete parameters; equal recipes give equal bytes.

    Parameters
    ----------
    name : str
        As for `resolve`.
    **params
        JSON values. What is left out takes the transform's default, and so equals it when given.

    Attributes
    ----------
    transform : str
        ``"package.module:function"``.
    version : int
        The transform's declared version.
    params_json : str
        Complete parameters as canonical JSON.
    digest : bytes
        16 bytes, xxh3-128 of the three.

    Examples
    --------
    >>> Recipe("saliencycut") == Recipe("saliencycut", method="rc")
    True
    """

    transform: str
    version: int
    params_json: str = field(default="{}")

    def __init__(self, name: str, /, **params: Any) -> None:
        function = resolve(name)
        complete = _defaults(function)
        unknown = sorted(set(params) - set(complete))
        if unknown:
            known = ", ".join(complete) or "none"
            raise RecipeError(f"transform {name!r} has no parameter {unknown[0]!r}; it has: {known}")
        for key, value in params.items():
            # 1 and 1.0 must be one recipe; the default says which of the two is meant.
            as_float = isinstance(complete[key], float) and isinstance(value, int) and not isinstance(value, bool)
            complete[key] = float(value) if as_float else value
        text = _canonical(complete)
        complete = json.loads(text)
        validate = function.__augcache_validate__  # type: ignore[attr-defined]  # set by the mark
        if validate is not None:
            validate(**complete)
        self._set(import_path(name), function.__augcache_version__, text)  # type: ignore[attr-defined]

    def _set(self, path: str, version: int, params_json: str) -> None:
        object.__setattr__(self, "transform", path)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "params_json", params_json)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Rebuild a stored recipe without importing what it names."""
        try:
            raw = json.loads(text)
            path, version, params = raw["transform"], raw["version"], raw["params"]
        except (ValueError, TypeError, KeyError) as error:
            raise RecipeError(f"not a recipe: {error!r}") from error
        if not (isinstance(path, str) and _PATH.fullmatch(path) and type(version) is int and isinstance(params, dict)):
            raise RecipeError("not a recipe: a field is of the wrong kind")
        self = object.__new__(cls)
        self._set(path, version, _canonical(params))
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        return f"<Recipe {self.digest.hex()[:8]} {self.name} version {self.version}: {given or 'no parameters'}>"

    def to_json(self) -> str:
        """Canonical JSON of the three fields."""
        return _canonical({"transform": self.transform, "version": self.version, "params": self.params})

    @property
    def params(self) -> dict[str, Any]:
        """Complete parameters."""
        return json.loads(self.params_json)  # type: ignore[no-any-return]  # a dict by construction

    @functools.cached_property
    def digest(self) -> bytes:
        """16 bytes that name this recipe in a store."""
        return xxhash.xxh3_128_digest(self.to_json().encode())

    @property
    def name(self) -> str:
        """Short name: the function's own for a built-in, else the whole path."""
        module, _, function = self.transform.partition(":")
        return function if module == f"augcache.transforms.{function}" else self.transform

    @property
    def kind(self) -> str:
        """What its records are; see `transform`. Imports the transform."""
        return resolve(self.transform).__augcache_kind__  # type: ignore[attr-defined, no-any-return]  # set by the mark

    @property
    def keyed_by(self) -> str:
        """Whose pixels its records are found by: of their "input", or of the "result". Imports the transform."""
        return "result" if self.kind in OWN_PIXELS else "input"

    @property
    def reduced(self) -> Callable[[Any], tuple[Record, np.ndarray]] | None:
        """Makes a record from a file that is decoded at a fraction of its size, or None; see `transform`."""
        function = resolve(self.transform).__augcache_reduced__  # type: ignore[attr-defined]  # set by the mark
        return None if function is None else functools.partial(function, **self.params)

    def bind(self) -> Callable[[Any], Record]:
        """Import the transform and return it with this recipe's parameters filled in.

        Raises
        ------
        RecipeError
            If the installed transform declares another version than this recipe.
        """
        function = resolve(self.transform)
        version = function.__augcache_version__  # type: ignore[attr-defined]
        if version != self.version:
            raise RecipeError(
                f"recipe {self.digest.hex()[:8]} is of {self.transform} version {self.version}, "
                f"installed is version {version}: install the augcache that made it, or build anew"
            )
        return functools.partial(function, **self.params)

"""build(), resize() and extract_frames(): every item of a source through a recipe into a store, in parallel."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

from augcache.building.build_report import Report
from augcache.building.by_input import compute_job, look
from augcache.building.copies import copier
from augcache.building.run import Plan, begun, check_paths, count_items, run
from augcache.building.workers import Pool, open_pool
from augcache.errors import RecipeError, SourceError, StoreError
from augcache.images.decode import MAX_PIXELS
from augcache.progress import Progress
from augcache.recipe import Recipe
from augcache.sources import Masked, Videos, sharded
from augcache.sources.stored import is_store, open_images
from augcache.storage.choose_recipe import choose
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.storage.store_path import store_path


class Options(TypedDict, total=False):
    """What `build` takes beside source, recipe and store."""

    workers: int | None
    limit: int | None
    level: int
    backend: str
    scheduler: str | None
    shard: tuple[int, int] | None
    max_pixels: int
    timeout: float | None
    progress: Callable[[Progress], None] | None


def build(
    source: Any,
    recipe: Recipe | str,
    store: str | os.PathLike[str] | Store | None = None,
    *,
    workers: int | None = None,
    limit: int | None = None,
    level: int = 9,
    backend: str = "local",
    scheduler: str | None = None,
    shard: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    timeout: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Compute a recipe's record for every distinct image of a source that the store has none for.

    Parameters
    ----------
    source : path-like, source or map-style dataset
        A folder of images, or its URL, such as ``s3://bucket/pv``; a store of frames or copies; or an object with
        ``__len__`` and ``__getitem__`` that gives images, or tuples that start with one. For a recipe of kind "frame"
        a folder of videos, or one video.
    recipe : Recipe or str
        What to compute; or the name of a transform, which stands for it with its defaults, or the start of the digest
        of a recipe that the store has.
    store : path-like or Store, optional
        Default: ``$AUGCACHE_STORE``, else the folder's name with ``.augcache`` beside it.
    workers : int, optional
        Images at a time; default all cores of this machine, or of the cluster. 0 computes in this process.
    limit : int, optional
        Only the first so many images or videos, in order of name.
    level : int
        zstd level of what is written, 0 (none) to 22; does not change the recipe.
    backend : {"local", "dask", "ray"}
        Where it computes: in processes of this machine, or on a cluster. This process alone writes.
    scheduler : str, optional
        Where the cluster is: ``tcp://host:8786`` for Dask; "auto" (the default), ``host:6379`` or
        ``ray://host:10001`` for Ray.
    shard : (int, int), optional
        ``(i, n)``, i from 1 to n: only the images or videos of the i-th of n shares; see `augcache.sources.Sharded`.
    max_pixels : int
        An image of more is listed as a failure, before it is decoded.
    timeout : float, optional
        Seconds that one image may take in a worker, with what its transform compiles; one that takes longer is
        listed as a failure, and its worker is ended. Default: any time. For videos, seconds without a decoded packet
        until a decoder counts as hung; default 20.
    progress : callable, optional
        Called with a `Progress`.

    Returns
    -------
    Report

    Raises
    ------
    SourceError
        If the source holds no images. An image that cannot be read is no error: it is listed as a failure.
    StoreError
        If the store cannot be opened or written. What was committed before stays.
    BackendError
        If the cluster does not answer, or goes away. What was committed before stays.

    Notes
    -----
    Running it again computes only what is missing. An interrupt keeps what is finished and is raised again.

    Examples
    --------
    >>> report = build("images", Recipe("saliencycut"))
    >>> report.total, report.failed
    (4, 0)
    """
    recipe = _meant(recipe, source, store)
    recipe.bind()  # a recipe of another version says so before anything is opened
    items = sharded(_open_source(source, recipe), shard)
    count_items(items, limit)
    items = begun(items)  # nothing is made for a stream that has none
    is_video = recipe.kind == "frame"
    with open_pool(backend, scheduler, workers, None if is_video else timeout) as pool:
        check_paths(pool, items)
        opened = _store_to_write(source, store)  # nothing is made where the cluster does not answer
        with opened.exclusive(), _planned(recipe, opened, pool, level, max_pixels, timeout) as plan:
            return run(plan, items, opened, pool, limit=limit, progress=progress)


def resize(
    source: Any, recipe: Recipe | str, store: str | os.PathLike[str] | Store | None = None, **options: Unpack[Options]
) -> Report:
    """Store a copy of fixed size of every image.

    Parameters
    ----------
    source : path-like, source or map-style dataset
        As for `build`.
    recipe : Recipe
        ``Recipe("resize", width=64, height=64, ...)``; see `augcache.transforms.resize`.
    store : path-like or Store, optional
        As for `build`.
    **options
        As for `build`.

    Returns
    -------
    Report

    Raises
    ------
    SourceError, StoreError, BackendError
        As `build`.

    Notes
    -----
    A copy shows what a viewer shows: turned as the EXIF orientation asks, transparency over white, 16 bits scaled.
    It is stored under the hash of its own pixels, so a loader that reads copies and hashes them finds what was
    computed from them; with a mask, of image and mask, uint8 (H, W, 4). Large JPEGs are decoded at 1/2, 1/4 or 1/8
    by their own scaled decoding, then filtered.

    Examples
    --------
    >>> report = resize("images", Recipe("resize", width=32, height=24))
    >>> report.total, report.failed
    (4, 0)
    """
    return build(source, _of_kind(_meant(recipe, source, store), "image"), store, **options)


def extract_frames(
    source: str | os.PathLike[str] | Videos,
    recipe: Recipe | str,
    store: str | os.PathLike[str] | Store | None = None,
    **options: Unpack[Options],
) -> Report:
    """Store chosen frames of every video.

    Parameters
    ----------
    source : path-like or Videos
        A folder of videos, or one video.
    recipe : Recipe
        ``Recipe("frame", every=100, width=64, height=64, ...)``; see `augcache.transforms.frame`.
    store : path-like or Store, optional
        As for `build`.
    **options
        As for `build`; `limit` counts videos, and a shard has whole videos.

    Returns
    -------
    Report
        Counts videos.

    Raises
    ------
    SourceError, StoreError, BackendError
        As `build`.

    Notes
    -----
    Frame k is the k-th frame that a full decode presents, turned as the video's rotation asks, as players do. Each
    video is decoded in a process that may hang or die. A video that is damaged is listed as a failure that says
    why; its frames before the damage are kept. A finished video is passed over the next time, one that failed is
    tried again.

    Examples
    --------
    >>> report = extract_frames("films", Recipe("frame", every=4))
    >>> report.total, report.failed
    (1, 0)
    """
    return build(source, _of_kind(_meant(recipe, source, store), "frame"), store, **options)


def _meant(recipe: Recipe | str, source: Any, store: str | os.PathLike[str] | Store | None) -> Recipe:
    """Return the recipe that a name, or the start of the digest of one in the store, stands for."""
    if not isinstance(recipe, str):
        return recipe
    place = store if store is not None else _default_store(source)
    if re.fullmatch("[0-9a-f]{4,32}", recipe) and (isinstance(place, Store) or is_store(place)):
        with contextlib.suppress(StoreError):  # then it is a name
            return choose(open_store(place), recipe, lambda _: True, "what is meant")
    return Recipe(recipe)


def _of_kind(recipe: Recipe, kind: str) -> Recipe:
    if recipe.kind != kind:
        raise RecipeError(f"{recipe.name} is a transform of kind {recipe.kind}, not {kind}: use build()")
    return recipe


def _open_source(source: Any, recipe: Recipe) -> Any:
    """Return the items of a source, of the kind that a recipe works on."""
    if recipe.kind == "frame":
        return source if isinstance(source, Videos) else Videos(source)
    images, masks = open_images(source), recipe.params.get("masks") if recipe.kind == "image" else None
    if recipe.kind == "image" and bool(masks) != isinstance(images, Masked):
        raise RecipeError("a resize recipe has masks=True where the source has masks, and only there")
    return images.oriented(masks) if isinstance(images, Masked) and isinstance(masks, str) else images


def _default_store(source: Any) -> Path | None:
    """Where the store of a source is, None for one without path where the environment names none."""
    place = source if isinstance(source, str | os.PathLike) else getattr(source, "root", "")
    return store_path(place) if place or os.environ.get("AUGCACHE_STORE") else None


def _store_to_write(source: Any, store: str | os.PathLike[str] | Store | None) -> Store:
    """Open the store to write, by default the one beside the source; raises `SourceError` for a source without path."""
    place = store if store is not None else _default_store(source)
    if place is None:
        raise SourceError("this source has no folder to put a store beside: give store=")
    return open_store(place, "w")


@contextlib.contextmanager
def _planned(
    recipe: Recipe, store: Store, pool: Pool, level: int, max_pixels: int, timeout: float | None
) -> Iterator[Plan]:
    """Say what is done with an item, by what the recipe's transform declares."""
    if recipe.kind == "frame":
        from augcache.building.frames import folder_for_buffers, frames_of  # the video libraries
        from augcache.transforms.frame import TIMEOUT

        with folder_for_buffers(store) as folder:
            # Workers elsewhere have no such folder: what comes of a video travels in one piece.
            place = folder if pool.is_local else None
            patience = TIMEOUT if timeout is None else timeout
            yield Plan(recipe, partial(frames_of, recipe, patience, level, place), group=1)
    elif recipe.keyed_by == "result":
        yield Plan(recipe, copier(recipe, level), max_pixels=max_pixels)
    else:
        yield Plan(recipe, look, partial(compute_job, recipe.bind(), level), max_pixels, chunk=64)

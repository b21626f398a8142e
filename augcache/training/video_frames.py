"""VideoFrames: the frames of a store as a torch dataset, one at a time or as clips. Imports torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from augcache.errors import CorruptError, RecipeError, SourceError
from augcache.images.keys import ContentKey
from augcache.recipe import Recipe
from augcache.storage.choose_recipe import choose
from augcache.storage.manifest import Source
from augcache.storage.open_store import open_store
from augcache.storage.store import Store
from augcache.training.apply import applied, check_transform_form
from augcache.training.indices import checked_index
from augcache.training.output_forms import OUTPUTS, as_output
from augcache.transforms.resize import pixels


@dataclass(frozen=True)
class FrameInfo:
    """Where a frame came from; also read as ``info["seconds"]``.

    Attributes
    ----------
    source : str
        The video's path in its folder.
    frame : int
        Index in presentation order.
    seconds : float
        Time since the first frame.
    rotation : int
        Degrees clockwise that the image was turned by, because the video says so.
    """

    source: str
    frame: int
    seconds: float
    rotation: int

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class VideoFrames(Dataset[Any]):
    """Frames of a store, in order of video and index; or an anchor with its successors.

    Parameters
    ----------
    store : path-like or Store
        A store that `augcache extract-frames` made.
    clip : int, optional
        Give clips ``(x_0, ..., x_clip)``: an anchor and so many successors of the same video. Where frames were
        extracted with ``--anchors P --gap G``, anchors are the frames of ``--every`` and successors lie G frames apart
        (clip at most P); else any frame is an anchor, and successors are the next frames of ``--every``. An anchor
        whose successors are not all there is left out.
    recipe : Recipe or str, optional
        Which frames, where the store holds several: the recipe, its name ("frame"), or the start of its digest.
    transform : callable, optional
        Applied to each image; one of Albumentations needs ``output="array"``.
    output : {"pil", "array", "tensor"}
        PIL image, uint8 (H, W, 3) array or uint8 (3, H, W) tensor.

    Raises
    ------
    StoreError
        If there is no such store or recipe.
    SourceError
        If there is no such clip in it.

    Examples
    --------
    >>> frames = VideoFrames("films.augcache")
    >>> frames.info(1)
    FrameInfo(source='lion.mp4', frame=4, seconds=0.4, rotation=0)
    >>> anchor, first, second = VideoFrames("films.augcache", clip=2)[0]
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Store,
        clip: int | None = None,
        recipe: Recipe | str | None = None,
        transform: Callable[[Any], Any] | None = None,
        *,
        output: str = "pil",
    ) -> None:
        if output not in OUTPUTS:
            raise RecipeError(f"output={output!r}: give one of {', '.join(OUTPUTS)}")
        check_transform_form(transform, output)
        self.store = open_store(store)
        self.recipe = choose(self.store, recipe, lambda each: each.name == "frame", "video frames")
        self.transform, self.output, self.clip = transform, output, clip
        self._rows = list(self.store.sources(self.recipe.digest))
        self._items = [(number,) for number in range(len(self._rows))] if clip is None else self._clips(clip)
        if not self._items:
            what = "frames" if clip is None else f"clips of {clip} successors"
            raise SourceError(f"{self.store.path}: no {what} of recipe {self.recipe.digest.hex()[:8]} in it")

    def _clips(self, clip: int) -> list[tuple[int, ...]]:
        params = self.recipe.params
        if isinstance(clip, bool) or clip < 1:
            raise RecipeError(f"clip={clip!r}: give a whole number of successors from 1 up")
        if params["every"] is None:
            raise RecipeError("clips need frames that were extracted with --every")
        if params["anchors"] and clip > params["anchors"]:
            raise RecipeError(f"clip={clip}: these frames were extracted with --anchors {params['anchors']}")
        gap = params["gap"] if params["anchors"] else params["every"]
        places = {(row.name, row.frame): number for number, row in enumerate(self._rows)}
        items = []
        for row in self._rows:
            assert row.frame is not None  # rows of this recipe are frames
            wanted = [places.get((row.name, row.frame + step * gap)) for step in range(clip + 1)]
            if row.frame % params["every"] == 0 and None not in wanted:
                items.append(tuple(number for number in wanted if number is not None))
        return items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Give a batch, as a DataLoader asks for it; its frames are read in one transaction."""
        indices = [checked_index(index, len(self)) for index in indices]
        numbers = [number for index in indices for number in self._items[index]]
        records = self.store.get_many(self.recipe, [self._rows[number].key for number in numbers])
        images = iter([self._image(number, record) for number, record in zip(numbers, records, strict=True)])
        items = [tuple(next(images) for _ in self._items[index]) for index in indices]
        return [item[0] for item in items] if self.clip is None else items

    def _image(self, number: int, record: Any) -> Any:
        if record is None:
            row = self._rows[number]
            raise CorruptError(
                f"{self.store.path}: frame {row.frame} of {row.name} has a manifest row and no record; "
                "run 'augcache extract-frames' again"
            )
        image = as_output(pixels(record), self.output)
        return image if self.transform is None else applied(self.transform, image)

    def info(self, index: int) -> Any:
        """Return where an item came from: `FrameInfo`, or for clips one for the anchor and each successor."""
        infos = tuple(_info(self._rows[number]) for number in self._items[checked_index(index, len(self))])
        return infos[0] if self.clip is None else infos

    def key(self, index: int) -> ContentKey:
        """Content key of an item's image; of a clip's anchor."""
        return self._rows[self._items[checked_index(index, len(self))][0]].key

    def __repr__(self) -> str:
        what = "frames" if self.clip is None else f"clips of {self.clip + 1} frames"
        videos = len({row.name for row in self._rows})
        return f"VideoFrames({str(self.store.path)!r}, {len(self)} {what} of {videos} videos)"


def _info(row: Source) -> FrameInfo:
    assert row.frame is not None  # rows of this recipe are frames
    return FrameInfo(row.name, row.frame, row.seconds, row.rotation)

"""What a run tells while it goes on and when it is done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What a build did.

    Attributes
    ----------
    total : int
        Pictures (or videos) in the source; the sum of the next three.
    computed, reused, failed : int
        Pictures whose record was computed, was there already (also as the same picture under another name), or
        could not be made.
    seconds : float
        Wall time.
    store : str
        Path of the store.
    recipe : str
        Digest of the recipe, as hex.
    """

    total: int
    computed: int
    reused: int
    failed: int
    seconds: float
    store: str
    recipe: str


@dataclass
class Progress:
    """Counts so far; given to the callback of a build after every group of pictures."""

    total: int
    computed: int = 0
    reused: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Pictures dealt with."""
        return self.computed + self.reused + self.failed

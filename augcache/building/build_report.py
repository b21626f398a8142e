"""What a run tells while it goes on and when it is done."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What a build did.

    Attributes
    ----------
    total : int
        Images (or videos) in the source; the sum of the next three.
    computed, reused, failed : int
        Images whose record was computed, was there already (also as the same image under another name), or
        could not be made.
    seconds : float
        Wall time.
    store : str
        Path of the store.
    recipe : str
        Digest of the recipe, as hex.
    times : dict of str to float
        Where the wall time went, in seconds: "read" (decode and hash; copies and frames count it under "compute"),
        "compute", and "write" (waiting for the disk).

    Examples
    --------
    >>> build("images", Recipe("saliencycut"))
    Report(total=4, computed=0, reused=4, failed=0, ...)
    """

    total: int
    computed: int
    reused: int
    failed: int
    seconds: float
    store: str
    recipe: str
    times: dict[str, float] = field(default_factory=dict)

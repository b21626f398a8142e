"""The errors a user of augcache can cause; each message says what, where and what to do next."""


class AugcacheError(Exception):
    """Base of every error that augcache raises on purpose.

    Examples
    --------
    >>> try:
    ...     Store("no.augcache")
    ... except AugcacheError as error:
    ...     print(error)
    no.augcache: no store there; check the path, or build one by 'augcache build-saliency FOLDER --store no.augcache'
    """


class RecipeError(AugcacheError):
    """A transform cannot be found, or a parameter is unknown or out of range.

    Examples
    --------
    >>> try:
    ...     Recipe("saliencycut", colour="red")
    ... except RecipeError as error:
    ...     print("colour" in str(error))
    True
    """


class SourceError(AugcacheError):
    """A folder, file, dataset or item cannot be read as images.

    Examples
    --------
    >>> try:
    ...     build("nowhere", Recipe("saliencycut"))
    ... except SourceError as error:
    ...     print(str(error).startswith("nowhere: "))
    True
    """


class SourceWarning(UserWarning):
    """A source is read, and something about its classes or targets is not as one would expect.

    Examples
    --------
    >>> issubclass(SourceWarning, UserWarning)
    True
    """


class TooLargeError(SourceError):
    """An image has more pixels than are wanted."""

    def __init__(self, width: int, height: int, most: int) -> None:
        super().__init__(f"{width} x {height} pixels; the most is {most}")
        self.width, self.height, self.pixels = width, height, width * height


class StoreError(AugcacheError):
    """A store cannot be opened, read or written.

    Examples
    --------
    >>> try:
    ...     Store("images")
    ... except StoreError as error:
    ...     print(error)
    images: not an augcache store; the store of this folder is images.augcache
    """


class CorruptError(StoreError):
    """Bytes in a store are not what was written there.

    Examples
    --------
    >>> issubclass(CorruptError, StoreError)
    True
    """


class MissError(AugcacheError):
    """An image has no entry in the store.

    Examples
    --------
    >>> try:
    ...     SaliencyLookup("images.augcache")(np.zeros((9, 9, 3), np.uint8))
    ... except MissError as error:
    ...     print(error)
    images.augcache: every image so far missed (1 of 9x9; the store's are 80x60); ...
    """


class BackendError(AugcacheError):
    """An engine (Dask, Ray) is not installed, not to be reached, or went away; what was committed stays.

    Examples
    --------
    >>> try:
    ...     build("images", Recipe("saliencycut"), workers=0, timeout=1)
    ... except BackendError as error:
    ...     print(error)
    workers 0 works in this process, which cannot end itself: leave out the timeout
    """

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
    """A folder, file, data set or item cannot be read as pictures.

    Examples
    --------
    >>> try:
    ...     build("nowhere", Recipe("saliencycut"))
    ... except SourceError as error:
    ...     print(str(error).startswith("nowhere: "))
    True
    """


class TooLargeError(SourceError):
    """A picture has more pixels than are wanted."""

    def __init__(self, width: int, height: int, most: int) -> None:
        super().__init__(f"{width} x {height} pixels; the most is {most}")
        self.width, self.height, self.pixels = width, height, width * height


class StoreError(AugcacheError):
    """A store cannot be opened, read or written.

    Examples
    --------
    >>> try:
    ...     Store("pictures")
    ... except StoreError as error:
    ...     print(error)
    pictures: not an augcache store; the store of this folder is pictures.augcache
    """


class CorruptError(StoreError):
    """Bytes in a store are not what was written there.

    Examples
    --------
    >>> issubclass(CorruptError, StoreError)
    True
    """


class MissError(AugcacheError):
    """A picture has no entry in the store.

    Examples
    --------
    >>> try:
    ...     SaliencyLookup("pictures.augcache")(np.zeros((9, 9, 3), np.uint8))
    ... except MissError as error:
    ...     print(error)
    pictures.augcache: every picture so far missed (1 of 9x9; the store's are 80x60); ...
    """


class BackendError(AugcacheError):
    """An engine (Dask, Ray) is not installed, not to be reached, or went away; what was committed stays.

    Examples
    --------
    >>> try:
    ...     build("pictures", Recipe("saliencycut"), workers=0, timeout=1)
    ... except BackendError as error:
    ...     print(error)
    workers 0 works in this process, which cannot end itself: leave out the timeout
    """

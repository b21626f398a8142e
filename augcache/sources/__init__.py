"""Where images come from: folders, lists, annotated and packed datasets; each image becomes an `Item`."""

from augcache.sources.annotations import Annotated
from augcache.sources.dataset import MadeDataset, MapDataset
from augcache.sources.folder import Folder, walk
from augcache.sources.items import ArrayItem, BrokenItem, FileItem, Images, Item, Small, Views
from augcache.sources.list_file import ListFile
from augcache.sources.masks import Masked
from augcache.sources.opening import open_source
from augcache.sources.packed import Packed
from augcache.sources.regular import open_regular, read_regular
from augcache.sources.remote import as_local, root_of
from augcache.sources.shares import Sharded, sharded
from augcache.sources.stream import Streamed
from augcache.sources.videos import Videos

__all__ = [
    "Annotated",
    "ArrayItem",
    "BrokenItem",
    "FileItem",
    "Folder",
    "Images",
    "Item",
    "ListFile",
    "MadeDataset",
    "MapDataset",
    "Masked",
    "Packed",
    "Sharded",
    "Small",
    "Streamed",
    "Videos",
    "Views",
    "as_local",
    "open_regular",
    "open_source",
    "read_regular",
    "root_of",
    "sharded",
    "walk",
]

"""What lies in folders of images and is none of them."""

from __future__ import annotations

# Put there by systems of storage, desktops and archivers; what begins with a dot, such as .ipynb_checkpoints, as well.
_OF_SYSTEMS = frozenset([
    "@eaDir", "@Recycle", "@__thumb", "#recycle", "__MACOSX", "Thumbs.db", "$RECYCLE.BIN", "System Volume Information",
    "lost+found",
])  # fmt: skip  # a list of names


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden, a store, or a system's own."""
    return name.startswith(".") or name.endswith(".augcache") or name in _OF_SYSTEMS

"""Files of many images for other loaders: WebDataset tar shards and parquet files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from augcache.errors import SourceError

SHARD_IMAGES = 1000


@dataclass(frozen=True)
class Sample:
    """One exported image.

    Attributes
    ----------
    number : int
        Its place in the manifest.
    png : bytes
        The encoded image.
    target : int
        Class index.
    about : dict
        Source, label, content key and, for a video frame, its place: JSON values.
    """

    number: int
    png: bytes
    target: int
    about: dict[str, Any]


def tar_shard(samples: Sequence[Sample]) -> bytes:
    """Return a WebDataset shard: ``000000012.png``, ``.cls`` and ``.json`` of each sample; the same on every run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            parts = {"png": sample.png, "cls": str(sample.target).encode(), "json": json.dumps(sample.about).encode()}
            for suffix, data in parts.items():
                member = tarfile.TarInfo(f"{sample.number:09d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def parquet_shard(samples: Sequence[Sample], classes: Sequence[str]) -> bytes:
    """Return a parquet file that Hugging Face ``datasets`` reads with an Image and a ClassLabel column.

    Raises
    ------
    SourceError
        If pyarrow is not installed.
    """
    arrow, parquet = import_arrow()
    columns: dict[str, Any] = {
        "image": [{"bytes": sample.png, "path": f"{sample.number:09d}.png"} for sample in samples],
        "label": [sample.target for sample in samples],
        "source": [sample.about["source"] for sample in samples],
        "key": [sample.about["key"] for sample in samples],
    }
    text = {"dtype": "string", "_type": "Value"}
    label = {"names": list(classes), "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label, "source": text, "key": text}
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    schema = arrow.schema(
        [("image", image), ("label", arrow.int64()), ("source", arrow.string()), ("key", arrow.string())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    buffer = io.BytesIO()
    parquet.write_table(arrow.table(columns, schema=schema), buffer, row_group_size=100)
    return buffer.getvalue()


def import_arrow() -> tuple[Any, Any]:
    """Import pyarrow, which is not among the requirements; raises `SourceError`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise SourceError("parquet needs pyarrow, which is not installed: pip install 'augcache[export]'") from error
    return pyarrow, pyarrow.parquet

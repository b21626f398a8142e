"""The same saliency maps through a DataLoader, from our store and from what people use instead, in one run.

    python benchmarks/loader.py [DATA] [--images N] [--keep FOLDER]

Every peer holds the same 256x256 index maps and colours them with the same random palette jitter by the same code;
what differs is where a map comes from, and in three rows that `augcache.training.collate.Collate` makes the batches.
Two workers, batches of 64, shuffled where the peer can; epochs interleaved, medians. A peer that is not installed is
named as missing.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lookup import prepared
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from augcache import HashedSaliencyDataset
from augcache.training.collate import Collate
from augcache.training.jitter import Jitter
from augcache.training.views import segments

EPOCHS = 5
JITTER = Jitter()


def colour(labels: np.ndarray, palette: np.ndarray) -> torch.Tensor:
    palette = JITTER(palette, torch.rand(JITTER.draws(len(palette))).numpy())
    return torch.from_numpy(segments(labels, palette, planar=True))


class Peer(Dataset[Any]):
    """A list of maps that `fetch` gives, coloured."""

    def __init__(self, count: int, fetch: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
        self.count, self.fetch = count, fetch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return colour(*self.fetch(index)), 0


def loader(dataset: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=64, num_workers=2, persistent_workers=True, **options)


def memmap(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    np.save(folder / "maps.npy", maps)
    lazily = np.load(folder / "maps.npy", mmap_mode="r")
    return loader(Peer(len(maps), lambda i: (np.asarray(lazily[i]), palettes[i])), shuffle=True)


def memmap_collate(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    batches = memmap(folder, maps, palettes)
    return loader(batches.dataset, shuffle=True, collate_fn=Collate())  # type: ignore[attr-defined]  # a DataLoader


def png(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    for number, labels in enumerate(maps):
        Image.fromarray(labels).save(folder / f"{number}.png")
    return loader(Peer(len(maps), lambda i: (np.asarray(Image.open(folder / f"{i}.png")), palettes[i])), shuffle=True)


def joblib_memory(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    import joblib

    memory = joblib.Memory(folder, verbose=0)
    remembered = memory.cache(_take, ignore=["maps", "palettes"])
    for number in range(len(maps)):
        remembered(number, maps, palettes)
    return loader(Peer(len(maps), lambda i: remembered(i, maps, palettes)), shuffle=True)


def _take(number: int, maps: np.ndarray, palettes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return maps[number], palettes[number]


def disk_cache(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    import diskcache

    cache = diskcache.Cache(folder)
    for number, labels in enumerate(maps):
        cache[number] = (labels, palettes[number])
    return loader(Peer(len(maps), lambda i: cache[i]), shuffle=True)


def monai_lmdb(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    from monai.data import LMDBDataset

    items = [{"number": number} for number in range(len(maps))]
    dataset = LMDBDataset(
        items,
        lambda item: {"labels": maps[item["number"]], "palette": palettes[item["number"]]},
        folder,
        progress=False,
    )

    def fetch(index: int) -> tuple[np.ndarray, np.ndarray]:
        item = dataset[index]
        return item["labels"], item["palette"]

    return loader(Peer(len(maps), fetch), shuffle=True)


def web_dataset(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    import webdataset

    with webdataset.ShardWriter(str(folder / "shard-%04d.tar"), maxcount=max(1, len(maps) // 8), verbose=0) as writer:
        for number, labels in enumerate(maps):
            writer.write({"__key__": f"{number:06d}", "labels.npy": labels, "palette.npy": palettes[number]})
    shards = sorted(map(str, folder.glob("*.tar")))
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), workersplitter=webdataset.split_by_worker)
        .shuffle(200)
        .decode()
        .map(lambda sample: (colour(sample["labels.npy"], sample["palette.npy"]), 0))
    )
    return loader(dataset)


def hugging_face(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    import datasets

    table = datasets.Dataset.from_generator(
        lambda: ({"labels": m.tobytes(), "palette": p.tobytes()} for m, p in zip(maps, palettes, strict=True)),
        cache_dir=str(folder),
    )
    side = maps.shape[1:]

    def fetch(index: int) -> tuple[np.ndarray, np.ndarray]:
        row = table[index]
        return np.frombuffer(row["labels"], np.uint8).reshape(side), np.frombuffer(row["palette"], np.uint8).reshape(
            -1, 3
        )

    return loader(Peer(len(maps), fetch), shuffle=True)


def lit_data(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    import litdata
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder), chunk_bytes="16MB")
    for number, labels in enumerate(maps):
        writer[number] = {"labels": labels, "palette": palettes[number]}
    writer.done()
    writer.merge()

    class Coloured(litdata.StreamingDataset):
        def __getitem__(self, index: Any) -> Any:
            item = super().__getitem__(index)
            return colour(np.asarray(item["labels"]), np.asarray(item["palette"])), 0

    return litdata.StreamingDataLoader(Coloured(str(folder), shuffle=True), batch_size=64, num_workers=2)


def mosaic(folder: Path, maps: np.ndarray, palettes: list[np.ndarray]) -> Iterable[Any]:
    import streaming

    columns = {"labels": f"ndarray:uint8:{maps.shape[1]},{maps.shape[2]}", "palette": "ndarray"}
    with streaming.MDSWriter(out=str(folder), columns=columns) as writer:
        for number, labels in enumerate(maps):
            writer.write({"labels": labels, "palette": palettes[number]})

    class Coloured(streaming.StreamingDataset):
        def __getitem__(self, index: Any) -> Any:
            item = super().__getitem__(index)
            return colour(item["labels"], item["palette"]), 0

    return loader(Coloured(local=str(folder), shuffle=True, batch_size=64))


PEERS: dict[str, Callable[..., Iterable[Any]]] = {
    "numpy memmap of raw maps": memmap,
    "numpy memmap, with Collate": memmap_collate,
    "PNG files, Pillow": png,
    "joblib.Memory": joblib_memory,
    "diskcache": disk_cache,
    "MONAI LMDBDataset": monai_lmdb,
    "WebDataset": web_dataset,
    "HF datasets (arrow)": hugging_face,
    "LitData": lit_data,
    "MosaicML Streaming": mosaic,
}


def epoch(batches: Iterable[Any], expected: int) -> float:
    """Samples a second over one epoch, the first batch included."""
    start, seen = time.perf_counter(), 0
    for images, _ in batches:
        if isinstance(images, dict):
            assert images["labels"].shape[1:] == (256, 256)
        else:
            assert images.shape[1:] == (3, 256, 256)
        seen += len(images["labels"] if isinstance(images, dict) else images)
    # Loaders that cut an epoch to whole batches may leave some out; ours may not.
    assert seen > 0.9 * expected, f"{seen} of {expected} samples"
    return seen / (time.perf_counter() - start)


def main() -> None:
    with prepared(__doc__) as (folder, store, recipe, scratch):
        records = [store.get(recipe, row.key) for row in store.sources()]
        maps = np.stack([np.asarray(record["labels"], np.uint8) for record in records if record is not None])
        palettes = [np.asarray(record["palette"]) for record in records if record is not None]
        contenders: dict[str, Iterable[Any]] = {
            "augcache, folder": loader(HashedSaliencyDataset(folder, store=store, output="tensor"), shuffle=True),
            "augcache, indexed (a device colours)": loader(
                HashedSaliencyDataset(folder, store=store, output="indexed"), shuffle=True
            ),
            "augcache, folder, with Collate": loader(
                HashedSaliencyDataset(folder, store=store, output="tensor"), shuffle=True, collate_fn=Collate()
            ),
            "augcache, indexed, with Collate": loader(
                HashedSaliencyDataset(folder, store=store, output="indexed"), shuffle=True, collate_fn=Collate()
            ),
            "augcache, store alone": loader(HashedSaliencyDataset(store=store, output="tensor"), shuffle=True),
        }
        sizes = {name: (store.path / "data.mdb").stat().st_size for name in contenders}
        for name, make in PEERS.items():
            where = scratch / make.__name__
            where.mkdir()
            try:
                contenders[name] = make(where, maps, palettes)
                sizes[name] = sum(path.stat().st_size for path in where.rglob("*") if path.is_file())
            except Exception as error:  # a peer that is missing or broken is named, and the rest go on
                print(f"{name}: not measured: {error!r}")
                shutil.rmtree(where)
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range(EPOCHS + 1):
            for name, batches in list(contenders.items()):
                try:
                    rate = epoch(batches, len(maps))
                except Exception as error:
                    print(f"{name}: dropped: {error!r}")
                    del contenders[name], rates[name]
                    continue
                if number:  # the first epoch starts workers
                    rates[name].append(rate)
        ours = statistics.median(rates["augcache, folder, with Collate"])
        print(f"\n{len(maps)} maps of 256x256, 2 workers, batches of 64, {EPOCHS} epochs interleaved, medians\n")
        print("| from | samples/s | augcache with Collate is x as fast | bytes per map on disk |\n|---|---|---|---|")
        for name, values in sorted(rates.items(), key=lambda pair: -statistics.median(pair[1])):
            rate = statistics.median(values)
            print(f"| {name} | {rate:.0f} | {ours / rate:.2f} | {sizes[name] / len(maps):.0f} |")


if __name__ == "__main__":
    main()

"""Animal Kingdom: chosen frames of every clip, once, then a loader of single frames or of anchors with successors.

    python pipelines/animal_kingdom.py [FOLDER] [--clip P]

FOLDER is the data set as it was downloaded (any tree of videos), and its store is written beside it. Every 100th frame
at 64x64 is what a published study trained SimCLR on; ``--clip P`` adds P successors of each, for a loss that weighs
the anchor against them. Without FOLDER, small videos are made of the sample pictures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from augcache import Recipe, VideoFrames
from augcache.frames import extract_frames

SAMPLES = Path(__file__).parents[1] / "samples"


def make_loader(folder: Path, clip: int | None, batch: int, workers: int) -> DataLoader[torch.Tensor]:
    """Extract what is missing, and open it."""
    chosen = {"anchors": clip, "gap": 10} if clip else {}
    report = extract_frames(folder, Recipe("frame", every=100, width=64, height=64, **chosen))
    print(report)
    data = VideoFrames(report.store, clip=clip, recipe=report.recipe, output="tensor")
    return DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def make_videos(folder: Path) -> Path:
    """Pan over the sample pictures, 250 frames each."""
    import av
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for path in sorted(SAMPLES.rglob("*.jpg"))[:6]:
        picture = np.asarray(Image.open(path).convert("RGB").resize((192, 192)))
        with av.open(str(folder / f"{path.stem}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
            for step in range(250):
                view = np.ascontiguousarray(picture[step // 4 : step // 4 + 128, step // 4 : step // 4 + 128])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
            container.mux(stream.encode())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--clip", type=int, metavar="P", help="successors of each anchor")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or make_videos(Path(scratch) / "videos")
        loader = make_loader(folder, arguments.clip, arguments.batch, arguments.workers)
        for batch in loader:
            views = batch if isinstance(batch, list | tuple) else [batch]
            print("x_0 ... x_P:" if len(views) > 1 else "x:", *(tuple(view.shape) for view in views))


if __name__ == "__main__":
    main()

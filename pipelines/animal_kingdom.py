"""Animal Kingdom: every 100th frame of every clip, once, then SimCLR on frames or on anchors with their successors.

    python pipelines/animal_kingdom.py animal_kingdom/video
    python pipelines/animal_kingdom.py animal_kingdom/video --clip 3 --gap 10 --weights 1 0.5 0.25

FOLDER is any tree of videos, and its store is written beside it; run again, no video is opened. Without ``--clip`` two
views of each frame attract. With it a frame x_0 and its P successors, `gap` frames apart, do, by the loss
sum over i of lambda_i * NT-Xent(z_0, z_i), where the other clips of the batch repel. Frames of 64x64; learning rate and
decay are those of arXiv:2002.05709 on ImageNet, 0.3 for a batch of 256.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from evaluation import embed
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from methods import SimCLR
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from trainer import SAMPLES, Settings, home_of, make_backbone, make_loader, read_arguments, save, train, views_of

from augcache import Recipe, VideoFrames
from augcache.building.build import extract_frames
from augcache.training.policies import POLICIES, Policy, policy_transforms

EVERY = 100
PUBLISHED = Settings(size=64, epochs=100, batch=256, lr=0.3, weight_decay=1e-6, warmup=10)


class AnchorAndSuccessors(nn.Module):
    """An anchor attracts each of its successors, by a weight for each of them."""

    def __init__(self, backbone: nn.Module, features: int, weights: list[float], temperature: float = 0.5) -> None:
        super().__init__()
        self.backbone, self.weights = backbone, weights
        self.head = SimCLRProjectionHead(features, features, 128)
        self.loss = NTXentLoss(temperature)

    def forward(self, clip: list[torch.Tensor]) -> torch.Tensor:
        """Loss of a batch of clips: x_0 to x_P, each (B, 3, side, side)."""
        z = [self.head(self.backbone(frame)) for frame in clip]
        losses = [self.loss(z[0], successor) for successor in z[1:]]
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses, strict=True)]).sum()


class OfVideos(Dataset[Any]):
    """Every 100th frame and the number of its video; successors, which are much like their anchor, are left out."""

    def __init__(self, frames: VideoFrames) -> None:
        infos = [frames.info(index) for index in range(len(frames))]
        names = sorted({info.source for info in infos})
        chosen = [index for index, info in enumerate(infos) if info.frame % EVERY == 0]
        self.frames, self.chosen = frames, chosen
        self.targets = [names.index(infos[index].source) for index in chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.frames[self.chosen[number]], self.targets[number]


def of_the_same_video(features: np.ndarray, videos: np.ndarray) -> float:
    """Share of frames whose nearest other frame, by cosine, is of the same video; frames that are alone left out."""
    counts = np.bincount(videos)
    keep = counts[videos] > 1
    unit, videos = torch.nn.functional.normalize(torch.from_numpy(features[keep])), videos[keep]
    nearest = [(unit[start : start + 512] @ unit.T).topk(2).indices[:, 1] for start in range(0, len(unit), 512)]
    return float((videos[torch.cat(nearest).numpy()] == videos).mean()) if len(videos) else float("nan")


def make_sample(folder: Path) -> Path:
    """Pan over the sample images, 250 frames each."""
    folder.mkdir()
    for path in sorted(SAMPLES.rglob("*.jpg"))[::2]:
        image = np.asarray(Image.open(path).convert("RGB").resize((192, 192)))
        with av.open(str(folder / f"{path.stem}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
            for step in range(250):
                view = np.ascontiguousarray(image[step // 4 : step // 4 + 128, step // 4 : step // 4 + 128])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
            container.mux(stream.encode())
    return folder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clip", type=int, metavar="P", help="successors of each anchor; default: none, SimCLR")
    parser.add_argument("--gap", type=int, default=10, help="frames between successors; default: 10")
    parser.add_argument("--weights", type=float, nargs="+", help="lambda_1 to lambda_P; default: each half the last")
    parser.add_argument("--policy", choices=POLICIES, default="default", help="of SimCLR's views; default: default")


def main() -> None:
    arguments, settings = read_arguments(__doc__, PUBLISHED, add_options)
    clip = arguments.clip
    weights = arguments.weights or [0.5**step for step in range(clip or 0)]
    if len(weights) != (clip or 0):
        raise SystemExit(f"--weights: {len(weights)} numbers for --clip {clip}: give one for each successor")
    with home_of(arguments, settings, make_sample) as (folder, store):
        chosen = {"anchors": clip, "gap": arguments.gap} if clip else {}
        frames = Recipe("frame", every=EVERY, width=64, height=64, **chosen)
        print(extract_frames(folder, frames, store, limit=settings.limit or None, workers=settings.builders))

        backbone, features = make_backbone(settings, small_images=True)
        if clip:
            method: nn.Module = AnchorAndSuccessors(backbone, features, weights)
            [augment] = policy_transforms("default", views=1, size=settings.size)
            data: Dataset[Any] = VideoFrames(store, clip, frames, augment)
        else:
            method = SimCLR(backbone, features)
            data = views_of(VideoFrames(store, recipe=frames), arguments.policy, settings)
        train(method, make_loader(data, settings), settings, loss_of=method)
        save(backbone, arguments)

        [plain] = policy_transforms(Policy(p=0.0), views=1, size=settings.size)
        embedded = embed(
            backbone, make_loader(OfVideos(VideoFrames(store, None, frames, plain)), settings, train=False)
        )
        print(f"nearest frame of the same video: {of_the_same_video(*embedded):.3f}")


if __name__ == "__main__":
    main()

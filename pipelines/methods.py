"""Self-supervised methods, of lightly's heads and losses: ``loss = method(views)``, in any trainer.

A method is a torch module with a ``backbone``. Given a list of views of a batch, each (B, 3, side, side), it returns
the loss. Those with a momentum network move it by themselves at the start of each call in training, so nothing but the
call is asked of a training loop. Temperatures and momenta are those of the papers, and so are the widths of the heads
for a ResNet-50, whose 2048 features they are multiples of; they shrink with a smaller backbone.
"""

from __future__ import annotations

import copy

import torch
from lightly.loss import BarlowTwinsLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import modules as heads
from lightly.models.utils import deactivate_requires_grad, update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import nn

Views = list[torch.Tensor]


class SimCLR(nn.Module):
    """arXiv:2002.05709: views of an image attract, all other views of the batch repel."""

    def __init__(self, backbone: nn.Module, features: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = heads.SimCLRProjectionHead(features, features, 128)
        self.loss = NTXentLoss(temperature)

    def forward(self, views: Views) -> torch.Tensor:
        return self.loss(*(self.head(self.backbone(view)) for view in views))


class SimSiam(nn.Module):
    """arXiv:2011.10566: each view predicts the other, whose gradient is stopped."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = heads.SimSiamProjectionHead(features, features, features)
        self.predict = heads.SimSiamPredictionHead(features, features // 4, features)
        self.loss = NegativeCosineSimilarity()

    def forward(self, views: Views) -> torch.Tensor:
        z = [self.head(self.backbone(view)) for view in views]
        p = [self.predict(each) for each in z]
        return (self.loss(p[0], z[1].detach()) + self.loss(p[1], z[0].detach())) / 2


class Follower(nn.Module):
    """A network and its slow copy, which moves towards it by ``1 - momentum`` at each call of `follow`."""

    def __init__(self, backbone: nn.Module, head: nn.Module, momentum: float, steps: int | None = None) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.slow = copy.deepcopy(nn.Sequential(backbone, head))
        deactivate_requires_grad(self.slow)
        self.momentum, self.steps, self.step = momentum, steps, 0

    def follow(self) -> None:
        """Move the copy; with `steps` given, the momentum rises to 1 along a half cosine."""
        if self.training:
            momentum = self.momentum
            if self.steps is not None:
                momentum = cosine_schedule(min(self.step, self.steps), self.steps, self.momentum, 1.0)
            update_momentum(nn.Sequential(self.backbone, self.head), self.slow, momentum)
            self.step += 1


class BYOL(Follower):
    """arXiv:2006.07733: a view predicts what the slow copy says of the other."""

    def __init__(self, backbone: nn.Module, features: int, steps: int, momentum: float = 0.996) -> None:
        super().__init__(backbone, heads.BYOLProjectionHead(features, 2 * features, 256), momentum, steps)
        self.predict = heads.BYOLPredictionHead(256, 2 * features, 256)
        self.loss = NegativeCosineSimilarity()

    def forward(self, views: Views) -> torch.Tensor:
        self.follow()
        with torch.no_grad():
            z = [self.slow(view) for view in views]
        p = [self.predict(self.head(self.backbone(view))) for view in views]
        return self.loss(p[0], z[1]) + self.loss(p[1], z[0])


class MoCo(Follower):
    """arXiv:2003.04297 (MoCo v2): as SimCLR, against a queue of what the slow copy said of earlier batches."""

    def __init__(self, backbone: nn.Module, features: int, queue: int = 65536, momentum: float = 0.999) -> None:
        super().__init__(backbone, heads.MoCoProjectionHead(features, features, 128), momentum)
        self.loss = NTXentLoss(temperature=0.2, memory_bank_size=(queue, 128))

    def forward(self, views: Views) -> torch.Tensor:
        self.follow()
        with torch.no_grad():
            key = self.slow(views[1])
        return self.loss(self.head(self.backbone(views[0])), key)


class SwAV(nn.Module):
    """arXiv:2006.09882: each view predicts the prototypes that others are assigned to; the first two views are large.

    Without the paper's queue, so a batch should not be much smaller than the number of prototypes.
    """

    def __init__(self, backbone: nn.Module, features: int, prototypes: int = 3000) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = heads.SwaVProjectionHead(features, features, 128)
        self.prototypes = heads.SwaVPrototypes(128, prototypes)
        self.loss = SwaVLoss()

    def forward(self, views: Views) -> torch.Tensor:
        self.prototypes.normalize()
        z = [nn.functional.normalize(self.head(self.backbone(view)), dim=1) for view in views]
        scores = [self.prototypes(each) for each in z]
        return self.loss(scores[:2], scores[2:]).squeeze()


class BarlowTwins(nn.Module):
    """arXiv:2103.03230: the two views' features correlate each with itself and with no other."""

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = heads.BarlowTwinsProjectionHead(features, 4 * features, 4 * features)
        self.loss = BarlowTwinsLoss(lambda_param=0.005)

    def forward(self, views: Views) -> torch.Tensor:
        return self.loss(*(self.head(self.backbone(view)) for view in views))


METHODS = ("simclr", "simsiam", "byol", "moco", "swav", "barlowtwins")


def make_method(name: str, backbone: nn.Module, features: int, *, images: int, batch: int, epochs: int) -> nn.Module:
    """Make one of `METHODS`, with what depends on the size of the data.

    Parameters
    ----------
    name : str
        One of `METHODS`.
    backbone : Module
        Images (B, 3, side, side) to features (B, features).
    features : int
        Width of what the backbone gives.
    images, batch, epochs : int
        MoCo's queue holds at most half of the images, lest an image be its own negative; SwAV has at most four
        prototypes for each image of a batch; BYOL's momentum ends at 1 with the last step.
    """
    if name == "byol":
        return BYOL(backbone, features, steps=epochs * max(1, images // batch))
    if name == "moco":
        return MoCo(backbone, features, queue=min(65536, max(batch, images // 2 // batch * batch)))
    if name == "swav":
        return SwAV(backbone, features, prototypes=min(3000, 4 * batch))
    return {"simclr": SimCLR, "simsiam": SimSiam, "barlowtwins": BarlowTwins}[name](backbone, features)

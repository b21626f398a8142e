"""The parts that pipelines share: methods, schedule and scores do what their papers and docstrings say."""

import argparse
import copy
import math

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import nn

for name in ("lightly", "timm", "sklearn"):
    pytest.importorskip(name, reason="pipelines need the extra: pip install 'augcache[train]'")


@pytest.fixture(autouse=True)
def _import_as_scripts_do(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "pipelines")
    torch.manual_seed(0)


def tiny():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("name", ["simclr", "simsiam", "byol", "moco", "swav", "barlowtwins"])
def test_each_method_teaches_its_backbone(name):
    """One step gives a finite loss and moves the backbone; small crops are taken where the method has them."""
    from methods import make_method

    method = make_method(name, tiny(), 16, images=16, batch=8, epochs=2).train()
    before = copy.deepcopy(method.backbone.state_dict())
    views = [torch.randn(8, 3, side, side) for side in (16, 16, *([8, 8] if name == "swav" else []))]
    optimizer = torch.optim.SGD([each for each in method.parameters() if each.requires_grad], 0.1)
    for _ in range(2):
        loss = method(views)
        assert loss.shape == ()
        assert math.isfinite(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not torch.equal(before["0.weight"], method.backbone.state_dict()["0.weight"])


def test_the_slow_copy_follows():
    """At each call in training it goes 1 - momentum of the way; in evaluation it stays; it gets no gradient."""
    from methods import BYOL

    method = BYOL(tiny(), 16, steps=100, momentum=0.75)
    start = method.slow[0][0].weight.clone()
    with torch.no_grad():
        method.backbone[0].weight += 1
    views = [torch.randn(4, 3, 16, 16)] * 2
    method.eval()(views)
    assert torch.equal(method.slow[0][0].weight, start)
    method.train()(views).backward()
    torch.testing.assert_close(method.slow[0][0].weight, start + 0.25)
    assert all(each.grad is None for each in method.slow.parameters())


def test_schedule():
    """Up in a line, down in a half cosine, and up again at each restart."""
    from trainer import Settings, make_schedule

    settings = Settings(epochs=10, warmup=2, cycles=2, lr=1.0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=settings.lr)
    schedule, rates = make_schedule(optimizer, settings, steps=10), []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(rates[:20], np.arange(1, 21) / 20)
    assert rates[20] == rates[60] == 1
    assert rates[40] == pytest.approx(0.5)
    assert rates[59] == rates[99] < 0.01


def test_normalisation_is_not_decayed():
    """LARS takes neither decay nor adaptation to biases and normalisation, and leaves out what has no gradient."""
    from methods import MoCo
    from trainer import Settings, make_optimizer

    decayed, free = make_optimizer(MoCo(tiny(), 16, queue=8), Settings(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(each.ndim > 1 for each in decayed["params"])
    assert all(each.ndim == 1 for each in free["params"])
    assert all(each.requires_grad for each in (*decayed["params"], *free["params"]))


def test_clusters_are_scored_whatever_their_numbers():
    """Clear clusters score 1 by every measure; noise scores near nothing by NMI, and purity flatters it."""
    from evaluation import clustering_score

    targets = np.repeat([0, 1, 2], 20)
    random = np.random.default_rng(0)
    clear = np.eye(3)[targets] + random.normal(0, 0.01, (60, 3))
    assert clustering_score(clear, targets) == {"nmi": 1.0, "purity": 1.0, "acc": 1.0}
    noise = clustering_score(random.normal(size=(60, 3)), targets)
    assert noise["nmi"] < 0.2
    assert noise["purity"] >= noise["acc"] > 1 / 3


def test_the_probe_is_held_to_images_it_has_not_seen():
    """Clear classes are found, noise is at chance however unequal the classes, and a single image is no class."""
    from evaluation import linear_probe

    targets = np.repeat([0, 1, 2], [60, 20, 1])
    random = np.random.default_rng(0)
    assert linear_probe(np.eye(3)[targets] + random.normal(0, 0.1, (81, 3)), targets) == 1.0
    assert linear_probe(random.normal(size=(81, 3)), targets) == pytest.approx(0.5, abs=0.15)


def test_embeddings_leave_the_network_as_it_was():
    """Embedding does not disturb training: neither its mode nor its running means change."""
    from evaluation import embed

    network = tiny().train()
    before = copy.deepcopy(network.state_dict())
    batches = [([torch.randn(4, 3, 16, 16)], torch.arange(4))] * 2
    features, targets = embed(network, batches)
    assert (features.shape, features.dtype, targets.tolist()) == ((8, 16), np.float32, [0, 1, 2, 3] * 2)
    assert network.training
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())


def test_few_images_are_of_every_class(images, tmp_path):
    """A small sample of a folder takes from all of its classes, and writes nothing into it."""
    from trainer import few

    assert {path.parent.name for path in few(images, tmp_path / "few", 2).rglob("*.png")} == {"a", "b"}


def test_a_batch_larger_than_the_data(images):
    """Nothing to train on is said in one line, not trained in no time."""
    from trainer import Settings, make_loader, steps_of

    settings = Settings(batch=64, workers=0)
    with pytest.raises(SystemExit, match="6 images make no batch of 64"):
        steps_of(make_loader(range(6), settings), settings)


def test_published_settings_unless_given(monkeypatch):
    """The paper's settings hold, options go before them, and --smoke makes it small."""
    from trainer import Settings, read_arguments

    published = Settings(lr=0.7, epochs=5)
    monkeypatch.setattr("sys.argv", ["x.py", "data", "--epochs", "9"])
    arguments, settings = read_arguments("", lambda chosen: published if chosen.folder else Settings())
    assert (arguments.folder.name, settings) == ("data", Settings(lr=0.7, epochs=9))
    monkeypatch.setattr("sys.argv", ["x.py", "--smoke", "--lr", "0.1"])
    arguments, settings = read_arguments("", published)
    assert isinstance(arguments, argparse.Namespace)
    assert (settings.lr, settings.backbone, settings.limit > 0) == (0.1, "resnet18", True)

"""The parts of the pipelines that are not a library's: clips, turns, pseudo-labels and batches made from them."""

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from test_pipelines_train import run

from augcache import Recipe, Store, build
from augcache.pseudo_labels import is_pseudo_label
from augcache.training.policies import Policy, policy_views

pytestmark = pytest.mark.usefixtures("pipelines")


@pytest.fixture
def pipelines(monkeypatch):
    """Import scripts as they import each other."""
    for name in ("lightly", "timm", "sklearn", "torchvision"):
        pytest.importorskip(name, reason="pipelines need the extra: pip install 'augcache[train]'")
    monkeypatch.syspath_prepend(REPOSITORY / "pipelines")


class Mean(torch.nn.Module):
    """A backbone of one number an image."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, images):
        return images.mean((2, 3)) * self.scale


def test_clips_train_to_the_end(tmp_path):
    """Anchors with two successors, extracted and trained on; a weight too few is one line."""
    assert "loss" in run("animal_kingdom", "--smoke", "--clip", 2, "--weights", 1, 0.5, cwd=tmp_path)
    with pytest.raises(AssertionError, match="give one for each successor"):
        run("animal_kingdom", "--smoke", "--clip", 2, "--weights", 1, cwd=tmp_path)


def test_the_loss_of_clips_is_the_weighted_sum_over_successors():
    """Sum over i of lambda_i * NT-Xent(z_0, z_i), with the anchor in every term."""
    import animal_kingdom
    from lightly.loss import NTXentLoss

    torch.manual_seed(0)
    method = animal_kingdom.AnchorAndSuccessors(Mean(), 3, [1.0, 0.25], temperature=0.5).eval()
    clip = [torch.rand(6, 3, 8, 8) for _ in range(3)]
    z = [method.head(method.backbone(frame)) for frame in clip]
    loss = NTXentLoss(0.5)
    expected = loss(z[0], z[1]) + 0.25 * loss(z[0], z[2])
    assert torch.allclose(method(clip), expected)


def test_nearest_frames_of_the_same_video():
    """1 where frames of a video lie together, 0 where they never do; a video of one frame does not count."""
    import animal_kingdom

    features = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [-1, -1]], np.float32)
    assert animal_kingdom.of_the_same_video(features, np.array([0, 0, 1, 1, 2])) == 1
    assert animal_kingdom.of_the_same_video(features, np.array([0, 1, 0, 1, 2])) == 0


def test_turns_are_what_the_targets_say():
    """Each image is there four times, turned by as many quarters as its target."""
    import rotation

    class Corner(torch.nn.Module):
        """Finds the bright corner."""

        def forward(self, images):
            corners = [images[:, 0, y, x] for y, x in ((0, 0), (-1, 0), (-1, -1), (0, -1))]
            return torch.stack(corners, 1)

    images = torch.zeros(5, 3, 8, 8)
    images[:, :, 0, 0] = 1
    model = rotation.Rotation(Corner(), 4)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(4))
        model.head.bias.zero_()
    scores = model(images)
    assert torch.equal(scores.argmax(1), rotation.turns_of(scores))
    assert rotation.accuracy(model, [([images], None)]) == 1


def test_clusters_are_kept_by_content_under_the_weights_that_gave_them(images):
    """The same network finds its labels again; a changed one has labels of its own."""
    import deepcluster
    from trainer import Settings

    store = build(images, Recipe("toy:toy"), workers=0).store
    plain = policy_views(images, Policy(p=0.0), store=store, size=16, views=1)
    settings, backbone = Settings(size=16, batch=3, workers=0), Mean()
    recipe, labels = deepcluster.assign(plain, backbone, store, 2, settings)
    assert sorted(np.unique(labels)) == [0, 1]
    again, others = deepcluster.assign(plain, backbone, store, 2, settings)
    assert (again, others.tolist()) == (recipe, labels.tolist())
    backbone.scale.data *= 2
    assert deepcluster.assign(plain, backbone, store, 2, settings)[0] != recipe
    assert sum(is_pseudo_label(each) for each in Store(store).recipes()) == 2


def test_batches_are_of_different_clusters():
    """No two images of a batch are of one cluster, however unequal clusters are; over epochs all images come."""
    import g_simclr

    labels = np.repeat(np.arange(8), [3, 5, 9, 20, 2, 30, 7, 20])
    sampler, seen = g_simclr.Dissimilar(labels, 8), set()
    for _ in range(40):
        batches = list(sampler)
        assert len(batches) == len(sampler) == 12
        assert all(len(set(labels[batch])) == 8 for batch in batches)
        seen |= {index for batch in batches for index in batch}
    assert seen == set(range(96))


def test_few_clusters_are_shared_out():
    """With fewer clusters than images in a batch none comes twice as often as another."""
    import g_simclr

    for batch in g_simclr.Dissimilar(np.arange(40) % 3, 8):
        assert sorted(np.bincount(np.arange(40)[batch] % 3)) == [2, 3, 3]


def test_pseudo_labels_are_found_by_the_next_run(tmp_path, monkeypatch):
    """The autoencoder trains once; another number of clusters trains it anew."""
    import g_simclr
    from trainer import Settings

    settings = Settings(size=32, epochs=1, batch=4, workers=0, steps=1, warmup=0)
    path = g_simclr.make_store(g_simclr.make_sample(tmp_path / "cifar"), tmp_path / "c.augcache", "train", settings)
    labels = g_simclr.find_labels(path, 1, settings)
    assert (len(labels), len(np.unique(labels))) == (24, 4)
    monkeypatch.setattr(g_simclr, "train", lambda *_: pytest.fail("it trains again"))
    assert g_simclr.find_labels(path, 1, settings).tolist() == labels.tolist()
    with pytest.raises(BaseException, match="it trains again"):
        g_simclr.find_labels(path, 1, Settings(size=32, epochs=1, batch=6, workers=0, steps=1, warmup=0))

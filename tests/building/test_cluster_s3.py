"""Images in object storage: an S3 server in a process of its own. `make test-cluster` installs what this needs."""

import numpy as np
import pytest
from PIL import Image
from stores import contents

from augcache import HashedSaliencyDataset, Recipe, Store, build
from augcache.errors import SourceError

pytest.importorskip("s3fs", reason="needs the extra 's3': make test-cluster")
pytest.importorskip("moto", reason="needs moto's server: make test-cluster")
import clusters  # it needs what the lines above look for

TOY = Recipe("toy:toy")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with clusters.s3(tmp_path_factory.mktemp("s3")) as address:
        yield {
            "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip  # pairs


@pytest.fixture
def bucket(server, monkeypatch, images, tmp_path):
    """The six images as objects, with an empty object that stands for their folder."""
    import s3fs

    for name, value in server.items():
        monkeypatch.setenv(name, value)
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    name = tmp_path.name.replace("_", "-").lower()[-40:].strip("-")
    system.mkdir(name)
    system.put(f"{images}/", f"{name}/pv/", recursive=True)
    system.pipe_file(f"{name}/pv/", b"")
    system.pipe_file(f"{name}/pv/a/notes.txt", b"no image")
    return system, f"s3://{name}/pv"


def counts(report):
    return report.computed, report.reused, report.failed


def test_a_bucket_is_built_like_a_folder(bucket, server, images, tmp_path):
    """Names, labels, digests and entries are those of the same files in a folder; nothing is computed twice."""
    _, url = bucket
    here = Store(build(images, TOY, tmp_path / "here.augcache", workers=0).store)
    store = tmp_path / "there.augcache"
    command = ["build", f"{url}/", "--transform", "toy:toy", "--store", store, "--workers", "2"]
    code, errors = clusters.finish(clusters.command_line(*command, env=server))
    assert code == 0, errors
    assert contents(Store(store)) == contents(here)
    rows = [
        [(row.name, row.label, row.key, row.size, row.digest) for row in one.sources()] for one in (here, Store(store))
    ]
    assert rows[0] == rows[1]
    assert counts(build(url, TOY, store, workers=0)) == (0, 6, 0)


def test_an_object_that_changes_is_computed_and_a_copy_is_not(bucket, tmp_path):
    """The ETag tells: another image of the same size is noticed, and another bucket's copy is known."""
    system, url = bucket
    store = tmp_path / "s.augcache"
    build(url, TOY, store, workers=0)
    row = Store(store).source("a/0.png")
    pixels = np.random.default_rng(99).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    system.put_file(str(tmp_path / "new.png"), f"{url}/a/0.png")
    assert counts(build(url, TOY, store, workers=0)) == (1, 5, 0)
    assert Store(store).source("a/0.png").key != row.key
    stamps = {each.name: each.mtime_ns for each in Store(store).sources()}
    for path in system.glob(f"{url}/*/*.png"):
        system.cp_file(path, path.replace("/pv/", "/copy/"))
    build(url.replace("/pv", "/copy"), TOY, store, workers=0)
    assert {each.name: each.mtime_ns for each in Store(store).sources()} == stamps


def test_a_local_copy_of_a_bucket_trains(bucket, images, tmp_path):
    """The manifest's names are relative to the prefix, so a folder of the same files finds every entry."""
    _, url = bucket
    build(url, TOY, tmp_path / "s.augcache", workers=0)
    data = HashedSaliencyDataset(images, store=tmp_path / "s.augcache")
    assert len(data) == 6
    assert data.classes == ["a", "b"]
    assert data.listing.known.all()
    assert data[0][0].size == (24, 20)


def test_workers_of_a_cluster_read_the_objects_themselves(bucket, server, tmp_path, monkeypatch):
    """No image passes through the driver, whose workers have the same environment."""
    pytest.importorskip("distributed", reason="needs the extra 'dask': make test-cluster")
    _, url = bucket
    monkeypatch.setattr(clusters, "ENVIRONMENT", {**clusters.ENVIRONMENT, **server})
    (tmp_path / "logs").mkdir()
    with clusters.dask(tmp_path / "logs") as cluster:
        report = build(url, TOY, tmp_path / "s.augcache", backend="dask", scheduler=cluster.address)
    assert counts(report) == (6, 0, 0)


def test_copies_masks_and_frames_of_a_bucket(bucket, tmp_path):
    """resize and extract-frames read objects as well."""
    from video_variants import write_video

    from augcache.building.build import extract_frames, resize

    system, url = bucket
    write_video(tmp_path / "lion.mp4", frames=30)
    system.put_file(str(tmp_path / "lion.mp4"), f"{url}/lion.mp4")
    assert counts(resize(url, Recipe("resize", width=8, height=8), tmp_path / "c.augcache", workers=0)) == (6, 0, 0)
    report = extract_frames(url, Recipe("frame", every=10), tmp_path / "f.augcache", workers=0)
    assert counts(report) == (1, 0, 0)
    assert Store(report.store).info().entries == 3


def test_what_is_not_there_is_one_line(bucket, server, tmp_path):
    """A wrong bucket, prefix or missing --store: exit 1 and a line that says what to do."""
    _, url = bucket
    for source in ("s3://no-such-bucket-here/x", f"{url}/nothing/below"):
        with pytest.raises(SourceError, match=source):
            build(source, TOY, tmp_path / "s.augcache", workers=0)
    code, errors = clusters.finish(clusters.command_line("build", url, "--transform", "toy:toy", env=server))
    assert code == 1
    assert "give --store" in errors
    assert len(errors.splitlines()) == 1

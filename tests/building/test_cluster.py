"""Builds on real Dask and Ray clusters, whose parts are killed. `make test-cluster` installs what this needs."""

import signal
import time

import numpy as np
import pytest
from conftest import write_image
from PIL import Image
from stores import contents
from video_variants import write_video

from augcache import Recipe, Store, build
from augcache.building.build import extract_frames, resize
from augcache.building.engines.engine import WorkerError
from augcache.building.workers import open_pool
from augcache.errors import BackendError

pytest.importorskip("psutil", reason="needs what `make test-cluster` installs")
import clusters  # it needs psutil

SLOW = Recipe("toy:slow", seconds=0.1)
SLOW_OPTIONS = ["--transform", "toy:slow", "-o", "seconds=0.1"]


@pytest.fixture(scope="module", params=["dask", "ray"])
def cluster(request, tmp_path_factory):
    """A cluster with two workers; it is the same for all tests, whatever they kill."""
    library = {"dask": "distributed", "ray": "ray"}[request.param]
    pytest.importorskip(library, reason=f"needs the extra {request.param!r}: make test-cluster")
    with getattr(clusters, request.param)(tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def many(tmp_path):
    """Forty images, and the store of a clean run."""
    for index in range(40):
        write_image(tmp_path / f"many/{'ab'[index % 2]}/{index:02d}.png", index)
    return tmp_path / "many", Store(build(tmp_path / "many", SLOW, tmp_path / "clean.augcache", workers=2).store)


def assert_same(store: Store, clean: Store, sources: int = 40) -> None:
    """Byte for byte what a clean run gives."""
    assert contents(store) == contents(clean)
    assert list(store.sources()) == list(clean.sources())
    assert store.info().sources == sources
    assert store.info().failures == 0


def entries(path) -> int:
    return Store(path).info().entries if (path / "data.mdb").exists() else 0


def test_every_command_gives_the_same_bytes_on_a_cluster(cluster, images, tmp_path):
    """Images, copies and frames come out as they do on one machine."""
    write_video(tmp_path / "videos/lion.mp4", frames=40)
    runs = {
        "build": (build, images, Recipe("toy:toy")),
        "resize": (resize, images, Recipe("resize", width=16, height=16)),
        "frames": (extract_frames, tmp_path / "videos", Recipe("frame", every=10)),
    }
    for name, (run, source, recipe) in runs.items():
        here = Store(run(source, recipe, tmp_path / f"{name}-here.augcache", workers=0).store)
        there = run(
            source, recipe, tmp_path / f"{name}-there.augcache", backend=cluster.backend, scheduler=cluster.address
        )
        assert contents(here) == contents(Store(there.store))
        prefix = bytes(16) if name == "build" else recipe.digest
        assert list(here.sources(prefix)) == list(Store(there.store).sources(prefix)) != []


def test_a_worker_that_is_killed_costs_nothing(cluster, many, tmp_path):
    """SIGKILL to a worker in the middle: no failure, and the bytes of a clean run."""
    folder, clean = many
    store = tmp_path / "s.augcache"
    process = clusters.command_line("build", folder, *SLOW_OPTIONS, "--store", store, *cluster.options)
    clusters.wait_for((store / "running.json").exists)
    time.sleep(1.0)
    clusters.wait_for(cluster.working)[0].send_signal(signal.SIGKILL)
    code, errors = clusters.finish(process)
    assert code == 0, errors
    assert_same(Store(store), clean)


def test_an_image_that_kills_its_worker_each_time_is_listed(cluster, tmp_path):
    """After three deaths an image counts as failed; every other one has its entry."""
    for index in range(24):
        pixels = np.full((8, 8, 3), index + 50, np.uint8)
        pixels[0, 0, 0] = 0 if index == 13 else 200
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"p/{index:02d}.png")
    report = build(
        tmp_path / "p",
        Recipe("toy:faulty"),
        tmp_path / "s.augcache",
        backend=cluster.backend,
        scheduler=cluster.address,
    )
    assert (report.computed, report.failed) == (23, 1)
    [failure] = Store(report.store).failures()
    assert failure.name == "13.png"
    assert "worker died" in failure.reason


def test_a_driver_that_is_killed_goes_on_where_it_was(cluster, many, tmp_path):
    """kill -9 to the process that writes: what was committed stays, and the same command finishes the rest."""
    folder, clean = many
    store = tmp_path / "s.augcache"
    command = ["build", folder, "--transform", "toy:slow", "-o", "seconds=0.1", "--store", store, *cluster.options]
    process = clusters.command_line(*command, "--workers", "1")
    clusters.wait_for(lambda: entries(store))
    process.kill()
    process.wait()
    kept = entries(store)
    assert 0 < kept < 40
    code, errors = clusters.finish(clusters.command_line(*command, "--json"))
    assert code == 0, errors
    assert_same(Store(store), clean)


def test_the_jobs_of_a_driver_that_is_killed_end(cluster, tmp_path):
    """kill -9 to the process that asked: within seconds nobody works for it any more, and the cluster is free."""
    for index in range(80):
        write_image(tmp_path / f"p/{index:02d}.png", index)
    log = tmp_path / "log"
    options = ["--transform", "toy:paced", "-o", f"log={log}", "-o", "seconds=0.5", "--store", tmp_path / "s.augcache"]
    process = clusters.command_line("build", tmp_path / "p", *options, *cluster.options)
    clusters.wait_for(log.exists, 60)
    process.kill()
    process.wait()
    time.sleep(5)
    worked = log.read_text()
    time.sleep(2)
    assert log.read_text() == worked
    assert len(worked.split()) < 60


def test_an_image_that_never_ends_is_a_failure(cluster, tmp_path):
    """--timeout: the image fails, all others are computed, and the cluster works on."""
    for index in range(12):
        pixels = np.full((4, 4, 3), 100 + index, np.uint8)
        pixels[0, 0, 0] = 7 if index == 3 else 200
        (tmp_path / "p").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"p/{index:02d}.png")
    where = {"backend": cluster.backend, "scheduler": cluster.address}
    report = build(tmp_path / "p", Recipe("hostile:hang", only=7), tmp_path / "s.augcache", timeout=3, **where)
    assert (report.computed, report.failed) == (11, 1)
    [failure] = Store(report.store).failures()
    assert (failure.name, failure.reason) == ("03.png", "took longer than 3 s")
    clusters.wait_for(lambda: len(cluster.working()) >= 2 or cluster.backend == "ray")
    assert build(tmp_path / "p", Recipe("toy:toy"), tmp_path / "s.augcache", **where).computed == 12


def test_a_fault_of_our_own_is_raised_with_its_traceback(cluster):
    """A bug in a worker elsewhere is no failure of an image, and no complaint about the cluster."""
    with open_pool(cluster.backend, cluster.address) as pool, pytest.raises(WorkerError, match="no_such_name"):
        list(pool.run(faulty, [[1]]))


def faulty(jobs):
    return [no_such_name for _ in jobs]  # noqa: F821  # that is the fault


def test_results_in_flight_are_bounded(cluster):
    """A reader that is slow holds up the groups, not the memory."""
    handed, taken, most = 0, 0, 0

    def groups():
        nonlocal handed
        for number in range(160):
            handed += 1
            yield [number]

    with open_pool(cluster.backend, cluster.address) as pool:
        for _ in pool.run(double, groups()):
            most = max(most, handed - taken)
            taken += 1
            if taken < 80:
                time.sleep(0.01)
    assert taken == 160
    assert most <= 4 * pool.workers


def double(jobs):
    return [2 * job for job in jobs]


def test_a_scheduler_that_goes_away_is_one_line_and_the_same_command_finishes(many, tmp_path):
    """Exit 1 with one line; what was finished is kept; with the scheduler back, the same command does the rest."""
    pytest.importorskip("distributed", reason="needs the extra 'dask': make test-cluster")
    folder, clean = many
    store, port = tmp_path / "s.augcache", clusters.free_port()
    (tmp_path / "logs").mkdir()
    command = ["build", folder, *SLOW_OPTIONS, "--store", store, "--backend", "dask", "--quiet"]
    command += ["--scheduler", f"tcp://127.0.0.1:{port}", "--workers", "1"]
    with clusters.dask(tmp_path / "logs", port) as cluster:
        process = clusters.command_line(*command)
        clusters.wait_for(lambda: entries(store))
        cluster.processes[0].kill()
        code, errors = clusters.finish(process)
    assert code == 1
    assert "the Dask scheduler went away" in errors
    assert len(errors.splitlines()) == 1
    assert 0 < entries(store) < 40
    with clusters.dask(tmp_path / "logs", port):
        code, errors = clusters.finish(clusters.command_line(*command))
    assert code == 0, errors
    assert_same(Store(store), clean)


def test_a_ray_node_that_goes_away_is_said_in_a_line(tmp_path, many):
    """The same for Ray; what Ray itself prints comes before it. The rest is done on this machine, for once."""
    pytest.importorskip("ray", reason="needs the extra 'ray': make test-cluster")
    folder, clean = many
    store = tmp_path / "s.augcache"
    command = ["build", folder, *SLOW_OPTIONS, "--store", store, "--quiet"]
    (tmp_path / "logs").mkdir()
    with clusters.ray(tmp_path / "logs") as cluster:
        process = clusters.command_line(*command, *cluster.options, "--workers", "1")
        clusters.wait_for(lambda: entries(store))
        [raylet] = [each for each in clusters.children(cluster.processes[0].pid) if each.name() == "raylet"]
        raylet.kill()
        code, errors = clusters.finish(process)
    assert code == 1
    assert "the Ray cluster went away" in errors.splitlines()[-1]
    assert 0 < entries(store) < 40
    code, errors = clusters.finish(clusters.command_line(*command))
    assert code == 0, errors
    assert_same(Store(store), clean)


def test_ray_by_its_client(cluster, tmp_path, images):
    """ray://, for a machine that is no part of the cluster."""
    if cluster.backend != "ray":
        pytest.skip("of Ray alone")
    options = ["--backend", "ray", "--scheduler", cluster.client, "--store", tmp_path / "s.augcache"]
    for _ in range(2):  # Ray gives the server that it starts for a client 30 seconds, which a busy machine may miss
        code, errors = clusters.finish(clusters.command_line("build", images, "--transform", "toy:toy", *options))
        if code == 0:
            break
    assert code == 0, errors
    assert entries(tmp_path / "s.augcache") == 6


def test_a_cluster_that_does_not_answer(images, tmp_path, monkeypatch):
    """One line that says what to start, and no store is made."""
    pytest.importorskip("distributed", reason="needs the extra 'dask': make test-cluster")
    monkeypatch.setattr("augcache.building.engines.dask_cluster.CONNECT_SECONDS", 1)
    scheduler = f"tcp://127.0.0.1:{clusters.free_port()}"
    with pytest.raises(BackendError, match="no Dask scheduler answers"):
        build(images, Recipe("toy:toy"), tmp_path / "s.augcache", backend="dask", scheduler=scheduler)
    assert not (tmp_path / "s.augcache").exists()

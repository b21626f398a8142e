"""Two hosts: network namespaces with a cable between them. `make test-cluster` installs what this needs."""

import contextlib
import subprocess

import pytest
from stores import contents

from augcache import Recipe, Store, build

pytest.importorskip("distributed", reason="needs the extra 'dask': make test-cluster")
import clusters  # it needs what the line above looks for

NORTH, SOUTH = "10.213.7.1", "10.213.7.2"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Two names of network namespaces, joined by a pair of virtual interfaces."""
    names = ("augcache-north", "augcache-south")
    try:
        for name in names:
            ip("netns", "add", name)
        ip(
            "link",
            "add",
            "augcache-n",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "augcache-s",
            "netns",
            names[1],
        )
        for name, link, address in zip(names, ("augcache-n", "augcache-s"), (NORTH, SOUTH), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            for device in ("lo", link):
                ip("-n", name, "link", "set", device, "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else error
        pytest.skip(f"this machine makes no network namespaces: {said}")
    finally:
        for name in names:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "delete", name)


def test_a_driver_on_one_host_and_workers_on_two(hosts, images, tmp_path):
    """Scheduler, driver and a worker on one host, a worker on another: both work, and the bytes are the same."""
    north, south = (["ip", "netns", "exec", name] for name in hosts)
    log = tmp_path / "log"
    here = Store(build(images, Recipe("toy:traced", log=str(log)), tmp_path / "here.augcache", workers=0).store)
    log.unlink()
    cluster = clusters.Cluster("dask", f"tcp://{NORTH}:8786", tmp_path)
    scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", NORTH, "--no-dashboard"]
    try:
        cluster.spawn(*scheduler, prefix=north)
        for address, prefix in ((NORTH, north), (SOUTH, south)):
            cluster.spawn(*clusters.dask_worker(cluster.address), "--host", address, prefix=prefix)
        clusters.wait_for(lambda: (tmp_path / "0.log").read_text().count("Starting worker compute stream") == 2)
        options = ["--store", tmp_path / "there.augcache", "-o", f"log={log}", *cluster.options]
        command = clusters.command_line("build", images, "--transform", "toy:traced", *options, prefix=north)
        code, errors = clusters.finish(command)
        assert code == 0, errors
        assert {int(line) for line in log.read_text().split()} == {each.pid for each in cluster.working()}
    finally:
        cluster.stop()
    assert contents(here) == contents(Store(tmp_path / "there.augcache"))

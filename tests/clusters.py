"""Dask and Ray clusters, and an S3 server, of processes on this machine's loopback address."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TESTS = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{TESTS}:{TESTS / 'building'}",  # on the workers: the transforms of toy.py, functions of the tests
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(condition, seconds: float = 30.0):
    """Wait until a condition gives something, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, psutil.Error):
            if found := condition():
                return found
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds} s in vain")


def listens(host: str, port: int) -> bool:
    with socket.create_connection((host, port), timeout=1):
        return True


@dataclass
class Cluster:
    """A scheduler and two workers of one core each."""

    backend: str
    address: str
    folder: Path
    prefix: list[str] = field(default_factory=list)  # runs a command somewhere else, such as in a network namespace
    processes: list[subprocess.Popen] = field(default_factory=list)
    client: str = ""  # ray://

    @property
    def options(self) -> list[str]:
        return ["--backend", self.backend, "--scheduler", self.address]

    def spawn(self, *command: str, prefix: list[str] = ()) -> subprocess.Popen:
        log = (self.folder / f"{len(self.processes)}.log").open("w")
        process = subprocess.Popen(
            [*prefix, sys.executable, *command], env=ENVIRONMENT, stdout=log, stderr=log, cwd=self.folder,
            start_new_session=True,
        )  # fmt: skip  # how
        self.processes.append(process)
        return process

    def working(self) -> list[psutil.Process]:
        """Return the processes that run tasks."""
        below = [child for process in self.processes for child in children(process.pid)]
        if self.backend == "ray":
            return [child for child in below if "ray::_call" in " ".join(child.cmdline())]
        return [child for child in below if "spawn_main" in " ".join(child.cmdline())]

    def stop(self) -> None:
        families = [[psutil.Process(each.pid), *children(each.pid)] for each in self.processes if each.poll() is None]
        for process in (one for family in families for one in family):
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self.processes:
            process.wait()


def children(pid: int) -> list[psutil.Process]:
    """Processes below one."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


@contextlib.contextmanager
def dask(folder: Path, port: int | None = None, *, workers: int = 2):
    port = port or free_port()
    cluster = Cluster("dask", f"tcp://127.0.0.1:{port}", folder)
    try:
        scheduler = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
        cluster.spawn(*scheduler, "--no-dashboard", "--dashboard-address", ":0")
        wait_for(lambda: listens("127.0.0.1", port))
        for _ in range(workers):
            cluster.spawn(*dask_worker(cluster.address))
        yield cluster
    finally:
        cluster.stop()


def dask_worker(address: str) -> list[str]:
    options = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--dashboard-address", ":0"]
    return ["-m", "distributed.cli.dask_worker", address, *options]


@contextlib.contextmanager
def ray(folder: Path):
    port, client = free_port(), 9000 + os.getpid() % 900
    cluster = Cluster("ray", f"127.0.0.1:{port}", folder, client=f"ray://127.0.0.1:{client}")
    short = Path("/tmp") / f"ray-{os.getpid()}"  # its sockets lie below, and their paths may have 107 bytes
    try:
        cluster.spawn(
            "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port",
            str(port), "--ray-client-server-port", str(client), "--num-cpus", "2", "--include-dashboard", "false",
            "--object-store-memory", "80000000", "--temp-dir", str(short), "--disable-usage-stats",
        )  # fmt: skip  # options
        wait_for(lambda: listens("127.0.0.1", port))
        wait_for(lambda: "Ray runtime started" in (folder / "0.log").read_text())
        yield cluster
    finally:
        cluster.stop()
        import shutil

        shutil.rmtree(short, ignore_errors=True)


@contextlib.contextmanager
def s3(folder: Path):
    """Run an S3 server; yields its address."""
    port = free_port()
    with (folder / "s3.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: listens("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def command_line(*arguments, env: dict | None = None, prefix: list[str] = ()) -> subprocess.Popen:
    """Start the command line as a person does."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "augcache", *map(str, arguments)], env={**ENVIRONMENT, **(env or {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip  # how


def finish(process: subprocess.Popen, seconds: float = 90.0) -> tuple[int, str]:
    """Wait for a command; returns its status and its last words."""
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        raise
    return process.returncode, errors

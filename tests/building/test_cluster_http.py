"""A server that stalls, sends half, refuses or hangs up, in earnest. `make test-cluster` installs what this needs."""

import contextlib
import http.server
import re
import socket
import struct
import threading
import time

import pytest

from augcache import Recipe, Store, build
from augcache.sources import remote, retries

pytest.importorskip("aiohttp", reason="needs the extra 's3': make test-cluster")

TOY = Recipe("toy:toy")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder; what happens to a path, a test says."""

    plans: dict[str, list[str]]

    def do_GET(self):
        plan = next((plan for end, plan in self.plans.items() if self.path.endswith(end)), ["fine"])
        step = plan.pop(0) if len(plan) > 1 else plan[0]
        if step.isdecimal():
            self.send_error(int(step))
        elif step == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif step in ("half", "stall"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)
            self.wfile.flush()
            if step == "stall":
                time.sleep(2)
        else:
            super().do_GET()

    def finish(self):
        with contextlib.suppress(OSError, ValueError):  # it was hung up
            super().finish()

    def log_message(self, *_):
        pass


@pytest.fixture
def served(images, monkeypatch):
    """Address of the six images, and what happens to each path."""
    plans: dict[str, list[str]] = {}
    handler = type("Planned", (Handler,), {"plans": plans})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=str(images))
    )
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(retries, "SILENCE", 0.5)
    remote._system.cache_clear()
    yield f"http://127.0.0.1:{server.server_address[1]}", plans
    server.shutdown()
    server.server_close()
    remote._system.cache_clear()


def run(address, tmp_path):
    report = build(address, TOY, tmp_path / "s.augcache", workers=0)
    return report, {failure.name: failure.reason for failure in Store(report.store).failures()}


@pytest.mark.parametrize("trouble", ["503", "429", "reset", "half", "stall"])
@pytest.mark.parametrize("where", ["/a/0.png", "/b/"])
def test_what_passes_is_no_failure(served, tmp_path, trouble, where):
    """The server's trouble is over when it is asked again."""
    address, plans = served
    plans[where] = [trouble, "fine"]
    report, failed = run(address, tmp_path)
    assert (report.computed, failed) == (6, {})


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("503", r"503.*\(tried 4 times\)"),
        ("reset", r"(reset|disconnected).*\(tried 4 times\)"),
        ("half", r"not completed.*\(tried 4 times\)"),
        ("stall", r"Timeout on reading data from socket \(tried 2 times\)"),
        ("403", r"403"),
        ("404", r"no such object"),
    ],
)
def test_what_lasts_is_a_failure_that_says_what_happened(served, tmp_path, trouble, said):
    """The rest is built."""
    address, plans = served
    plans["/a/0.png"] = [trouble]
    report, failed = run(address, tmp_path)
    assert (report.computed, list(failed)) == (5, ["a/0.png"])
    assert re.search(said, failed["a/0.png"]), failed


def test_a_part_that_cannot_be_listed(served, tmp_path):
    """One failure; the rest is built."""
    address, plans = served
    plans["/b/"] = plans["/b"] = ["500"]
    report, failed = run(address, tmp_path)
    assert (report.computed, list(failed)) == (3, ["b/"])
    assert "500" in failed["b/"]

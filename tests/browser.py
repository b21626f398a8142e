"""A headless Chromium, driven over a pipe by its DevTools protocol; needs nothing but the browser."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-quic", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip  # a list of words
TIMEOUT = 30.0


class Page:
    """One page of the browser."""

    def __init__(self, to_browser, from_browser):
        self.out, self.into, self.number, self.session, self.rest = to_browser, from_browser, 0, None, b""
        self.errors, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self):
        until = time.monotonic() + TIMEOUT
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.into], [], [], until - time.monotonic())
            assert ready, "the browser does not answer"
            self.rest += os.read(self.into, 1 << 20)
        raw, _, self.rest = self.rest.partition(b"\0")
        event = json.loads(raw)
        if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.errors.append(json.dumps(event["params"])[:500])
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        return event

    def evaluate(self, expression):
        """Value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression):
        """Wait until an expression is true."""
        until = time.monotonic() + TIMEOUT
        while not self.evaluate(expression):
            assert time.monotonic() < until, f"never true: {expression}; {self.errors}"
            time.sleep(0.05)

    def open(self, path):
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")

    def window(self, width, height=900, scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path, *, whole=True):
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def chromium():
    """A page of a fresh browser; skips the test where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here: install the packages chromium or google-chrome")
    read_3, write_3 = os.pipe()
    read_4, write_4 = os.pipe()

    def prepare():  # the browser reads from 3 and writes to 4; first out of the way, for one may be the other's number
        spare_3, spare_4 = os.dup(read_3), os.dup(write_4)
        os.dup2(spare_3, 3)
        os.dup2(spare_4, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            command,
            preexec_fn=prepare,  # noqa: PLW1509  # no threads here, and the pipe must have these two numbers
            close_fds=False,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(read_3)
        os.close(write_4)
        try:
            yield Page(write_3, read_4)
        finally:
            os.close(write_3)  # the browser ends with its pipe
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(read_4)

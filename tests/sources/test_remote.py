"""Sources by URL whose server stalls, refuses or breaks off: asked again, or a failure that says what happened."""

import time

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from augcache import Recipe, Store, build
from augcache.building.build import extract_frames
from augcache.errors import SourceError
from augcache.sources import Videos, as_local, retries

TOY = Recipe("toy:toy")


class Refused(Exception):
    """An answer with a status, as libraries of object stores raise it."""

    def __init__(self, status):
        super().__init__(f"{status} from the server")
        self.status = status


class Unsteady(MemoryFileSystem):
    """Files in memory, behind calls that do what a test says, by the end of the path."""

    protocol = "unsteady"
    store = {}  # noqa: RUF012  # fsspec's own way
    pseudo_dirs = [""]  # noqa: RUF012  # fsspec's own way
    plans = {}  # noqa: RUF012  # what each call does, the last for ever
    asked = []  # noqa: RUF012  # the calls, in order

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("unsteady:/"))

    def _before(self, call, path):
        self.asked.append((call, path))
        for (of_call, end), plan in self.plans.items():
            if of_call == call and path.endswith(end):
                step = plan.pop(0) if len(plan) > 1 else plan[0]
                if isinstance(step, Exception):
                    raise step
                time.sleep(step)

    def cat_file(self, path, start=None, end=None, **_):
        self._before("cat_file", path)
        return super().cat_file(path, start=start, end=end)

    def ls(self, path, detail=True, **_):
        self._before("ls", path)
        return super().ls(path, detail=detail)

    def get_file(self, path, local, **_):
        data = super().cat_file(path)
        with open(local, "wb") as file:
            for part in range(4):
                self._before("get_file", path)
                file.write(data[part * len(data) // 4 : (part + 1) * len(data) // 4])
                file.flush()


@pytest.fixture
def system(images, monkeypatch):
    """The six images under unsteady://pv; waits are short."""
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    for name in ("plans", "asked"):
        monkeypatch.setattr(Unsteady, name, type(getattr(Unsteady, name))())
    for name, value in (("FIRST_WAIT", 0.01), ("PATIENCE", 0.3), ("LISTING", 0.3), ("UNKNOWN", 0.3)):
        monkeypatch.setattr(retries, name, value)
    opened = fsspec.filesystem("unsteady")
    opened.store.clear()
    for path in images.rglob("*.png"):
        opened.pipe_file(f"/pv/{path.relative_to(images)}", path.read_bytes())
    Unsteady.asked.clear()
    return Unsteady


def run(tmp_path):
    report = build("unsteady://pv", TOY, tmp_path / "s.augcache", workers=0)
    failed = {failure.name: failure.reason for failure in Store(report.store).failures()}
    assert report.computed + report.reused + len(failed) == report.total
    return failed


@pytest.mark.parametrize(
    "trouble", [Refused(503), Refused(429), Refused(408), ConnectionResetError(104, "reset"), OSError(5, "I/O"), 1.0]
)
@pytest.mark.parametrize(("call", "end"), [("cat_file", "a/0.png"), ("ls", "/pv"), ("ls", "/b")])
def test_what_passes_is_tried_again(system, tmp_path, trouble, call, end):
    """A refusal, a reset or a stall that comes once is no failure, of an image or of a listing."""
    system.plans[call, end] = [trouble, 0, 0]
    assert run(tmp_path) == {}


@pytest.mark.parametrize(
    ("trouble", "reason", "tries"),
    [
        (Refused(503), "cannot be read: Refused: 503 from the server (tried 4 times)", 4),
        (Refused(403), "cannot be read: Refused: 403 from the server", 1),
        (PermissionError("not yours"), "cannot be read: PermissionError: not yours", 1),
        (FileNotFoundError("gone"), "cannot be read: no such object", 1),
        (1.0, "cannot be read: nothing more came within 0 s (tried 2 times)", 2),
    ],
)
def test_what_lasts_is_a_failure_with_its_reason(system, tmp_path, trouble, reason, tries):
    """It is tried as often as it is worth, the failure says what happened, and the rest is built."""
    system.plans["cat_file", "a/0.png"] = [trouble]
    assert run(tmp_path) == {"a/0.png": reason}
    assert len([path for _, path in system.asked if path.endswith("a/0.png")]) == tries


@pytest.mark.parametrize(("trouble", "tries"), [(Refused(500), " (tried 4 times)"), (PermissionError("no"), "")])
def test_a_part_that_cannot_be_listed_is_one_failure(system, tmp_path, trouble, tries):
    """Of a bucket as of a folder: the rest is built; where it is the whole, one line says so."""
    system.plans["ls", "/b"] = [trouble]
    said = f"cannot be listed: {type(trouble).__name__}: {trouble}{tries}"
    assert run(tmp_path) == {"b/": said}
    system.plans["ls", "/pv"] = [trouble]
    with pytest.raises(SourceError, match="unsteady://pv: cannot be listed"):
        run(tmp_path)


def test_a_nameless_object_that_cannot_be_looked_into_is_not_passed_over(system, tmp_path):
    """Its first bytes would tell whether it is an image, and they alone are asked for."""
    fsspec.filesystem("unsteady").pipe_file("/pv/a/nameless", b"\xff\xd8\xff no JPEG")
    assert run(tmp_path)["a/nameless"].startswith("not an image")
    system.plans["cat_file", "nameless"] = [Refused(503)]
    assert run(tmp_path) == {"a/nameless": "cannot be read: Refused: 503 from the server (tried 4 times)"}


def test_an_object_that_is_cut_short_is_a_failure(system, tmp_path, monkeypatch):
    """Fewer bytes than were listed are no image, whatever decodes of them."""
    whole = Unsteady.cat_file
    monkeypatch.setattr(Unsteady, "cat_file", lambda self, path, **options: whole(self, path, **options)[:-4])
    failed = run(tmp_path)
    assert len(failed) == 6
    assert all("bytes came, of" in reason for reason in failed.values())


def test_a_slow_video_is_waited_for_and_a_stalled_one_is_not(system, tmp_path):
    """A large file may take its time, as long as some of it comes."""
    fsspec.filesystem("unsteady").pipe_file("/v/x.mp4", b"x" * 4000)
    system.plans["get_file", "x.mp4"] = [0.2]
    with as_local("unsteady://v/x.mp4") as path, open(path, "rb") as file:
        assert file.read() == b"x" * 4000  # in 0.8 s, of which none has more than 0.3 without a byte
    system.plans["get_file", "x.mp4"] = [0, 5]
    report = extract_frames(Videos("unsteady://v"), Recipe("frame", every=9), tmp_path / "f.augcache", workers=0)
    [failure] = Store(report.store).failures()
    assert failure.reason == "cannot be read: nothing more came within 0 s (tried 2 times)"

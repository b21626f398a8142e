"""Transforms for the tests: fast, and with faults on demand."""

import os
import time

import numpy as np

from augcache import transform


@transform(version=1)
def toy(image, *, shift=6, note="x"):
    """A saliency-like record: regions by the red channel."""
    labels = image[..., 0] >> shift
    count = (255 >> shift) + 1
    palette = np.array([[i * 255 // count, 255 - i * 255 // count, 77] for i in range(count)], np.uint8)
    saliency = np.linspace(0, 1, count).astype(np.float32)
    return {
        "labels": labels, "palette": palette, "region_saliency": saliency, "cut": labels > count // 2,
        "status": np.array("ok"),
    }  # fmt: skip


@transform(version=1)
def traced(image, *, log=""):
    """Leave a line in a file for every computation."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    return {"mean": image.mean((0, 1)).astype(np.float32)}


@transform(version=1)
def faulty(image, *, kill=0, fail=1):
    """Kill the worker, or raise, for images with the given first red value."""
    if image[0, 0, 0] == kill:
        os.kill(os.getpid(), 9)
    if image[0, 0, 0] == fail:
        raise ValueError("as asked")
    return {"mean": image.mean((0, 1)).astype(np.float32)}


@transform(version=1)
def slow(image, *, seconds=0.2):
    """Take a while."""
    time.sleep(seconds)
    return {"mean": image.mean((0, 1)).astype(np.float32)}


@transform(version=1)
def paced(image, *, log="", seconds=0.2):
    """Take a while, and leave a line for it in a file."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return {"mean": image.mean((0, 1)).astype(np.float32)}


@transform(version=1)
def modules(image):
    """Tell what the process has imported."""
    import sys

    heavy = {"torch", "click", "rich", "cv2"} & set(sys.modules)
    return {"modules": np.array(" ".join(sorted(heavy)) + f" {image[0, 0, 0]}")}


@transform(version=1, kind="image")
def darker(image):
    return {"image": image // 2}

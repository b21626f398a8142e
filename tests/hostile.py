"""A transform that does to its worker what a transform should not; which one, the image's first red value says."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from augcache import transform


class UnreadableError(Exception):
    def __str__(self):
        raise ValueError("no text")


class UnpicklableError(Exception):
    def __init__(self):
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def deep(depth=0):
    return deep(depth + 1)


def leave_a_child():
    subprocess.Popen(["sleep", "1000"], start_new_session=False)


def fork_and_go_on():
    os.fork()


def leave_a_thread():
    threading.Thread(target=time.sleep, args=(1000,)).start()


def take_signals():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda *_: None)


def go_away():
    os.chdir("/")


def talk():
    print("printed")
    os.write(1, b"written\n")
    ctypes.CDLL(None).puts(b"put by C")
    os.system("echo from a shell")


def fail(error):
    raise error


def hang_with_the_lock():
    re.match(r"(a+)+$", "a" * 60 + "b")


# By the first red value: the deed, and what becomes of the image; None where it has its record.
DEEDS = {
    1: (lambda: sys.exit(0), "the transform raised SystemExit: 0"),
    2: (lambda: fail(GeneratorExit()), "the transform raised GeneratorExit"),
    3: (lambda: fail(KeyboardInterrupt()), "the transform raised KeyboardInterrupt"),
    4: (deep, "the transform raised RecursionError: maximum recursion depth exceeded"),
    5: (lambda: fail(MemoryError()), "the transform raised MemoryError"),
    6: (lambda: fail(UnreadableError()), "the transform raised UnreadableError: its message cannot be read"),
    7: (lambda: fail(UnpicklableError()), "the transform raised UnpicklableError: holds a lock"),
    8: (lambda: fail(ValueError("red \x1b[31m")), "the transform raised ValueError: red \\x1b[31m"),
    9: (lambda: os._exit(0), "its worker process died (it ended with status 0), again when tried alone"),
    10: (lambda: os.closerange(3, 4096), "its worker process died (it ended with status 1), again when tried alone"),
    11: (lambda: [1, 2], "the transform gave a list: give a dict of names and arrays"),
    12: (lambda: {"x": np.array([None])}, "array 'x' is object (1,)"),
    13: (lambda: {1: np.zeros(1)}, "the transform gave 1: names and texts must be strings in UTF-8"),
    14: (lambda: {"x": np.array("\ud800")}, "the transform gave 'x': names and texts must be strings in UTF-8"),
    20: (leave_a_child, None),
    21: (fork_and_go_on, None),
    22: (leave_a_thread, None),
    23: (take_signals, None),
    24: (go_away, None),
    25: (talk, None),
}


@transform(version=1)
def hostile(image):
    """Do what the image asks for."""
    deed, _ = DEEDS.get(int(image[0, 0, 0]), (lambda: None, None))
    given = deed()
    return {"mean": image.mean((0, 1)).astype(np.float32)} if given is None else given


@transform(version=1)
def hang(image, *, how="sleep", only=0):
    """Never return, for images with the given first red value (0: any)."""
    if only in (0, image[0, 0, 0]):
        {"sleep": lambda: time.sleep(1000), "lock": hang_with_the_lock, "child": lambda: os.system("sleep 1000")}[how]()
    return {"mean": image.mean((0, 1)).astype(np.float32)}

"""The one kind of pickle that CIFAR's Python version uses, read without running anything in it.

A pickle is a program. Here its instructions are followed on a stack of plain values; what it would import or call
becomes a `Call` that nobody makes. An array's bytes are not even copied: where they lie in the file is noted.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from augcache.errors import SourceError

_LARGEST = 1 << 30
_ARRAY = {f"numpy.{core}.multiarray _reconstruct" for core in ("core", "_core")}


@dataclass
class Call:
    """What a pickle asks to be called, and the state it asks to be set; neither happens."""

    function: Any
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class Place:
    """A byte string's place in the file."""

    start: int
    length: int


class _Mark:
    pass


def read_layout(data: bytes, what: str) -> dict[str, Any]:
    """Return a pickled dict's members: numbers, strings, lists, and `Place` for the bytes of an array.

    Parameters
    ----------
    data : bytes
        The file.
    what : str
        Names it in an error.

    Raises
    ------
    SourceError
        If it is no pickle, or anything but a dict of numbers, strings, lists and uint8 arrays.
    """
    if len(data) > _LARGEST:
        raise SourceError(f"{what}: {len(data)} bytes are too many for a batch of CIFAR")
    try:
        value = _Machine().run(data)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, RecursionError) as error:
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise SourceError(f"{what}: not a batch of CIFAR's Python version ({text})") from error
    if not isinstance(value, dict):
        raise SourceError(f"{what}: not a batch of CIFAR's Python version (a {type(value).__name__}, not a dict)")
    return {_text(key): _array(member, what) for key, member in value.items()}


def _text(key: Any) -> str:
    return key.decode("latin-1") if isinstance(key, bytes) else str(key)


def _array(member: Any, what: str) -> Any:
    """Place of an array's bytes; any other member as it is."""
    if not isinstance(member, Call):
        return member
    state = member.state
    fits = (
        member.function in _ARRAY
        and isinstance(state, tuple)
        and len(state) == 5
        and isinstance(state[2], Call)
        and state[2].function == "numpy dtype"
        and isinstance(state[2].arguments, tuple)
        and state[2].arguments[:1] in (("u1",), (b"u1",))
        and state[3] is False
        and isinstance(state[4], Place)
    )
    if not fits:
        raise SourceError(f"{what}: it asks for {member.function!r}, which a batch of CIFAR has no need of; not read")
    return state[4]


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, position in pickletools.genops(data):
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _STRINGS:
                self.stack.append(self._string(name, argument, position))
            elif name in _MEMO:
                self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                self.stack.append(self.memo[int(argument or 0)])
            elif name in ("INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"):
                self.stack.append(argument)
            elif name == "GLOBAL":
                self.stack.append(argument)  # "module name", text and no more
            elif name in _ACTIONS:
                _ACTIONS[name](self)
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"instruction {name}")
        raise ValueError("it has no end")

    def _string(self, name: str, argument: Any, position: int | None) -> Any:
        raw = argument.encode("latin-1") if name in ("BINSTRING", "SHORT_BINSTRING", "STRING") else argument
        if isinstance(raw, bytes) and len(raw) > 1024 and position is not None:
            return Place(position + _STRINGS[name], len(raw))
        return raw

    def to_mark(self) -> list[Any]:
        at = max(index for index, value in enumerate(self.stack) if isinstance(value, _Mark))
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def _items(self, values: list[Any]) -> None:
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def set_items(self) -> None:
        self._items(self.to_mark())

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._items([key, value])

    def extend(self) -> None:
        values = self.to_mark()
        self.stack[-1].extend(values)

    def append(self) -> None:
        value = self.stack.pop()
        self.stack[-1].append(value)

    def gather(self, count: int) -> None:
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        self.stack.append(tuple(values))

    def mark_tuple(self) -> None:
        self.stack.append(tuple(self.to_mark()))

    def mark_list(self) -> None:
        self.stack.append(self.to_mark())

    def mark_dict(self) -> None:
        values = self.to_mark()
        self.stack.append({})
        self._items(values)

    def name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(f"{module} {name}")

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(Call(function, arguments))

    def build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Call):
            raise TypeError("a state for what is no call")
        self.stack[-1].state = state


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": _Mark,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
# Bytes of the instruction before the string's own.
_STRINGS = {
    "SHORT_BINSTRING": 2, "BINSTRING": 5, "STRING": 0, "SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9,
    "SHORT_BINUNICODE": 2, "BINUNICODE": 5,
}  # fmt: skip  # a table reads better in rows
_MEMO = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE")
_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "SETITEMS": _Machine.set_items,
    "SETITEM": _Machine.set_item,
    "APPENDS": _Machine.extend,
    "APPEND": _Machine.append,
    "TUPLE": _Machine.mark_tuple,
    "TUPLE1": lambda machine: machine.gather(1),
    "TUPLE2": lambda machine: machine.gather(2),
    "TUPLE3": lambda machine: machine.gather(3),
    "LIST": _Machine.mark_list,
    "DICT": _Machine.mark_dict,
    "STACK_GLOBAL": _Machine.name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}

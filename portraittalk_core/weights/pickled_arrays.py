"""Reads arrays and numbers out of a pickle without unpickling: no name in the file is looked up, nothing is called.

Python's unpickler runs whatever a file names. This reader knows the steps that arrays of numbers, texts and dicts are
made of, and stops at every other step and name.

Source: Python's `pickletools` (the steps); NumPy's `ndarray.__reduce__`, `dtype.__reduce__` (what its pickles hold).
"""

from __future__ import annotations

import math
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingDependency

MAX_BYTES, MAX_STEPS = 2**26, 1_000_000
DTYPES = {f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "b": (1,)}.items()
          for size in sizes}  # fmt: skip
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
# what a name stands for here
MEANINGS = {
    **{f"{module} _reconstruct": "array" for module in _MULTIARRAY},
    **{f"{module} scalar": "scalar" for module in _MULTIARRAY},
    **{f"{module} _frombuffer": "buffer" for module in _NUMERIC},
    "numpy ndarray": "class", "numpy dtype": "dtype", "_codecs encode": "bytes",
    "__builtin__ bytes": "bytes", "builtins bytes": "bytes",
}  # fmt: skip
_PUSHES = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "INT", "LONG", "FLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": _MARK}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_REMEMBERS, _RECALLS = {"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"}, {"BINGET", "LONG_BINGET", "GET"}
_GATHERS = {"TUPLE", "LIST", "DICT", "APPEND", "APPENDS", "SETITEM", "SETITEMS"}
_NOTHING = {"PROTO", "FRAME", "READONLY_BUFFER"}


class _Name:
    """A name of `MEANINGS`, by what it stands for."""

    def __init__(self, meaning: str) -> None:
        self.meaning = meaning


class _Holder:
    """An array or a dtype that its state will fill."""

    def __init__(self, value: np.ndarray | np.dtype | None = None) -> None:
        self.value = value


def read_pickled_arrays(path: Path) -> dict[str, np.ndarray]:
    """Arrays and numbers of a pickled dict by name; a number is an array () of float64.

    Raises:
        MissingDependency: there is no such file.
        InputError: it is no such pickle, damaged, too large, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDependency(f"there is no file {path}; put it there, or choose another.")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; {MAX_BYTES / 1e6:.0f} MB are allowed.")
    try:
        content = _Reader().read(path.read_bytes())
    except InputError as error:
        raise InputError(f"{path.name} cannot be read as a pickle of arrays: {error}.") from error
    except Exception as error:  # damaged files make the steps raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path.name} cannot be read as a pickle of arrays ({reason}); download it again.") from error
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path.name} holds no dict of named arrays; it is another file.")
    return {name: _numbers(value, f"{name} in {path.name}") for name, value in content.items()}


def _numbers(value: object, name: str) -> np.ndarray:
    value = value.value if isinstance(value, _Holder) else value
    if isinstance(value, bool) or not isinstance(value, int | float | np.ndarray):
        raise InputError(f"{name} is no array of numbers.")
    return np.asarray(value) if isinstance(value, np.ndarray) else np.asarray(float(value))


class _Reader:
    """A stack machine for the steps of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> object:
        """What the pickle makes."""
        for count, (step, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_STEPS:
                raise InputError(f"it has over {MAX_STEPS:,} steps")
            if step.name == "STOP":
                return self.stack.pop()
            self._take(step.name, argument)
        raise InputError("it does not end")

    def _take(self, step: str, argument: Any) -> None:
        if step in _NOTHING or self._pushed(step, argument):
            return
        if step in _TUPLES:
            self.stack[-_TUPLES[step] :] = [tuple(self.stack[-_TUPLES[step] :])]
        elif step in _REMEMBERS:
            self.memo[len(self.memo) if step == "MEMOIZE" else int(argument)] = self.stack[-1]
        elif step in ("GLOBAL", "STACK_GLOBAL"):
            self._name(argument if step == "GLOBAL" else None)
        elif step in _GATHERS:
            self._gather(step)
        elif step == "REDUCE":
            arguments, name = self.stack.pop(), self.stack.pop()
            self.stack.append(_made(name, arguments))
        elif step == "BUILD":
            state = self.stack.pop()
            _fill(self.stack[-1], state)
        else:
            raise InputError(f"it has a step {step}, which arrays of numbers do not need")

    def _pushed(self, step: str, argument: Any) -> bool:
        """Whether the step puts a value on the stack, which is done."""
        if step in _PUSHES:
            self.stack.append(argument)
        elif step in _CONSTANTS:
            self.stack.append(_CONSTANTS[step])
        elif step in _EMPTY:
            self.stack.append(_EMPTY[step]())
        elif step in _RECALLS:
            self.stack.append(self.memo[int(argument)])
        else:
            return False
        return True

    def _name(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
            argument = f"{module} {name}"
        if argument not in MEANINGS:
            raise InputError(f"it names {'.'.join(argument.split())}, and looking that up could run code")
        self.stack.append(_Name(MEANINGS[argument]))

    def _gather(self, step: str) -> None:
        """Make a tuple, list or dict, or add to one."""
        single = {"APPEND": 1, "SETITEM": 2}.get(step)
        if single:
            start = len(self.stack) - single
            items = self.stack[start:]
        else:
            start = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
            items = self.stack[start + 1 :]
        del self.stack[start:]
        if step in ("TUPLE", "LIST"):
            self.stack.append(tuple(items) if step == "TUPLE" else items)
        elif step == "DICT":
            self.stack.append(dict(zip(items[::2], items[1::2], strict=True)))
        elif step in ("APPEND", "APPENDS"):
            _of(list, self.stack[-1]).extend(items)
        else:
            _of(dict, self.stack[-1]).update(zip(items[::2], items[1::2], strict=True))


def _of(kind: type, value: object) -> Any:
    if not isinstance(value, kind):
        raise InputError(f"it adds to something that is no {kind.__name__}")
    return value


def _made(name: object, arguments: tuple) -> object:
    """What a step with a name of `MEANINGS` stands for."""
    meaning = name.meaning if isinstance(name, _Name) else "nothing"
    if meaning == "array":
        return _Holder()
    if meaning == "dtype":
        text = str(arguments[0]).lstrip("<>|=")
        if text not in DTYPES:
            raise InputError(f"it holds values of the type {text}, which are no numbers")
        return _Holder(np.dtype(text))
    if meaning == "bytes":
        return str(arguments[0]).encode("latin1") if arguments else b""
    if meaning == "scalar":
        return float(_array(arguments[1], arguments[0], (), False))
    if meaning == "buffer":
        data, dtype, shape, order = arguments
        return _Holder(_array(data, dtype, shape, order == "F"))
    raise InputError("it calls something")


def _fill(holder: object, state: tuple) -> None:
    """Give an array or a dtype its state."""
    if not isinstance(holder, _Holder):
        raise InputError("it gives a state to something that is no array")
    if isinstance(holder.value, np.dtype):
        if state[1] in ("<", ">"):
            holder.value = holder.value.newbyteorder(state[1])
    elif holder.value is None:
        _, shape, dtype, is_fortran, data = state
        holder.value = _array(data, dtype, shape, is_fortran)


def _array(data: bytes, dtype: _Holder, shape: tuple, is_fortran: bool) -> np.ndarray:
    """A copy of the numbers in native order."""
    kind = dtype.value
    if not isinstance(kind, np.dtype) or not isinstance(data, bytes | bytearray):
        raise InputError("it holds an array without numbers")
    if any(size < 0 for size in shape) or math.prod(shape) * kind.itemsize != len(data):
        raise InputError(f"an array of shape {tuple(shape)} has {len(data)} bytes")
    values = np.frombuffer(bytes(data), kind).reshape(shape, order="F" if is_fortran else "C")
    return values.astype(kind.newbyteorder("="))

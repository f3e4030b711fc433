"""A reader of the pickles that CIFAR comes in, which looks up and calls nothing.

``pickle`` runs whatever a file names. This reader knows the instructions that build dictionaries,
lists, strings, numbers and arrays of bytes, and refuses every other one, so that a hostile file can
do no more than be refused. The official files were written by Python 2; copies written by Python 3,
with the same content, are read as well.
"""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, cast

import numpy as np

from resnet_hub.errors import CorruptFile

_MOST_BYTES = 2**30
_MOST_INSTRUCTIONS = 5_000_000
"""Official files hold several times less; more is an attempt to fill the memory."""


class _Token(Enum):
    """What a file may name, and what stands for an array until its content is read."""

    RECONSTRUCT = "numpy.core.multiarray _reconstruct"
    NDARRAY = "numpy ndarray"
    DTYPE = "numpy dtype"
    ENCODE = "_codecs encode"
    EMPTY_ARRAY = 0
    BYTE = 1


class _Refused(Exception):
    """Why a file is refused."""


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a file that holds one dictionary.

    Args:
        path: The file.

    Returns:
        The dictionary, its keys as ``str``. Arrays are uint8 and read-only; strings of Python 2 are
        ``bytes``.

    Raises:
        CorruptFile: The file cannot be read, is cut or damaged, or holds something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _Refused(f"it is larger than {_MOST_BYTES:,} bytes")
        content: Any = _Machine(path.read_bytes()).run()
        if type(content) is not dict:
            raise _Refused("it holds no dictionary")
    except OSError as error:
        raise CorruptFile(f"{path}: cannot be read ({error.strerror})") from error
    except (_Refused, ValueError, TypeError, IndexError, KeyError) as error:
        reason = str(error) if isinstance(error, _Refused) else "it is damaged"
        raise CorruptFile(f"{path}: not a file of this data set: {reason}") from error
    return cast(dict[str, Any], content)


class _Machine:
    """The stack machine that a pickle is a programme of, with the harmless instructions alone."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.encoded = 0

    def run(self) -> Any:
        """Return what the programme leaves on the stack."""
        for _ in range(_MOST_INSTRUCTIONS):
            code = self.take(1)
            if code == b".":
                return self.stack.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise _Refused(f"it has the instruction {code!r}, which official files do not have")
            instruction(self)
        raise _Refused(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")

    def take(self, count: int) -> bytes:
        start, self.at = self.at, self.at + count
        if self.at > len(self.data):
            raise _Refused("it is cut short")
        return self.data[start : self.at]

    def take_number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def take_line(self) -> str:
        line = self.take(self.data.index(b"\n", self.at) + 1 - self.at)
        return line[:-1].decode("ascii")[:80]

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def pop(self, count: int) -> list[Any]:
        return self.pop_from(len(self.stack) - count)

    def pop_marked(self) -> list[Any]:
        return self.pop_from(self.marks.pop())

    def pop_from(self, start: int) -> list[Any]:
        if not 0 <= start <= len(self.stack):
            raise _Refused("it takes what it has not given")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _Refused("it has items without a list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if type(target) is not dict or {type(key) for key in keys} - {bytes, str}:
            raise _Refused("it has items without a dictionary, or keys that are no strings")
        if any(len(key) > 80 for key in keys):
            raise _Refused("it has keys that are no names")
        names = [key.decode("latin1") if type(key) is bytes else key for key in keys]
        target.update(zip(names, items[1::2], strict=True))

    def name(self, module: str, name: str) -> None:
        # NumPy 2 moved the module; the function is the same.
        known = {token.value: token for token in _Token}
        token = known.get(f"{module.replace('numpy._core', 'numpy.core')} {name}")
        if token is None:
            raise _Refused(f"it names {module}.{name}, which official files do not")
        self.stack.append(token)

    def name_from_stack(self) -> None:
        module, name = self.pop(2)
        if type(module) is not str or type(name) is not str:
            raise _Refused("it names something by what is no text")
        self.name(module[:80], name[:80])

    def reduce(self) -> None:
        """Stand in for the few calls that official files make."""
        token, arguments = self.pop(2)
        if token is _Token.RECONSTRUCT and arguments[0] is _Token.NDARRAY:
            self.stack.append(_Token.EMPTY_ARRAY)
        elif token is _Token.DTYPE and arguments[0] in ("u1", "|u1", b"u1", b"|u1"):
            self.stack.append(_Token.BYTE)
        elif token is _Token.ENCODE and type(arguments[0]) is str and arguments[1:] == ("latin1",):
            self.encoded += len(arguments[0])
            if self.encoded > len(self.data):  # one text over and over, to fill the memory
                raise _Refused("it encodes more than it holds")
            self.stack.append(arguments[0].encode("latin1"))
        else:
            raise _Refused("it makes a call, or an array of a type, that official files do not")

    def build(self) -> None:
        """Give an array its content; a dtype's needs no reading, because only one is admitted."""
        state = self.stack.pop()
        if self.stack[-1] is _Token.BYTE:
            return
        _, shape, dtype, by_column, content = state
        if self.stack[-1] is not _Token.EMPTY_ARRAY or dtype is not _Token.BYTE:
            raise _Refused("it fills something that is no array of bytes")
        flat = np.frombuffer(content, np.uint8)
        self.stack[-1] = flat.reshape(shape, order="F" if by_column else "C")


_Instruction = Callable[[_Machine], object]


def _push(make: Callable[[_Machine], Any]) -> _Instruction:
    return lambda machine: machine.stack.append(make(machine))


def _string(width: int) -> _Instruction:
    return _push(lambda machine: machine.take(machine.take_number(width)))


def _text(width: int) -> _Instruction:
    return _push(lambda machine: machine.take(machine.take_number(width)).decode("utf-8"))


def _tuple(count: int) -> _Instruction:
    return _push(lambda machine: tuple(machine.pop(count)))


def _put(width: int) -> _Instruction:
    return lambda machine: machine.memo.update({machine.take_number(width): machine.stack[-1]})


_INSTRUCTIONS: dict[bytes, _Instruction] = {
    # Header of the protocol, and of Python 3's frames, which need no reading.
    b"\x80": lambda machine: machine.take(1),
    b"\x95": lambda machine: machine.take(8),
    # Constants, whole numbers, strings and text.
    b"N": _push(lambda machine: None),
    b"\x88": _push(lambda machine: True),
    b"\x89": _push(lambda machine: False),
    b"K": _push(lambda machine: machine.take_number(1)),
    b"M": _push(lambda machine: machine.take_number(2)),
    b"J": _push(lambda machine: machine.take_number(4, signed=True)),
    b"U": _string(1),
    b"T": _string(4),
    b"C": _string(1),
    b"B": _string(4),
    b"\x8c": _text(1),
    b"X": _text(4),
    # Containers.
    b"}": _push(lambda machine: {}),
    b"]": _push(lambda machine: []),
    b")": _tuple(0),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"(": _Machine.mark,
    b"t": _push(lambda machine: tuple(machine.pop_marked())),
    b"a": lambda machine: machine.append(machine.pop(1)),
    b"e": lambda machine: machine.append(machine.pop_marked()),
    b"s": lambda machine: machine.set_items(machine.pop(2)),
    b"u": lambda machine: machine.set_items(machine.pop_marked()),
    # What was met before.
    b"q": _put(1),
    b"r": _put(4),
    b"\x94": lambda machine: machine.memo.update({len(machine.memo): machine.stack[-1]}),
    b"h": _push(lambda machine: machine.memo[machine.take_number(1)]),
    b"j": _push(lambda machine: machine.memo[machine.take_number(4)]),
    # Arrays.
    b"c": lambda machine: machine.name(machine.take_line(), machine.take_line()),
    b"\x93": _Machine.name_from_stack,
    b"R": _Machine.reduce,
    b"b": _Machine.build,
}

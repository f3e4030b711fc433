"""Small data sets in CIFAR's official layout, written as Python 2 wrote the official files."""

import struct
from pathlib import Path

import numpy as np

from resnet_hub.data.cifar import Cifar10, Cifar100

KINDS = {"Cifar10": Cifar10, "Cifar100": Cifar100}


class Python2Pickler:
    """What ``cPickle.dumps(value, 2)`` of Python 2 gives: byte strings, and a memo entry each."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.entries = 0

    def memo(self) -> None:
        self.entries += 1
        wide = self.entries > 255
        self.out += b"r" + struct.pack("<I", self.entries) if wide else bytes([113, self.entries])

    def write(self, value: object) -> None:
        match value:
            case None:
                self.out += b"N"
            case bool():
                self.out += b"\x88" if value else b"\x89"
            case int() if 0 <= value < 256:
                self.out += b"K" + bytes([value])
            case int() if 0 <= value < 65536:
                self.out += b"M" + struct.pack("<H", value)
            case int():
                self.out += b"J" + struct.pack("<i", value)
            case bytes() if len(value) < 256:
                self.out += b"U" + bytes([len(value)]) + value
                self.memo()
            case bytes():
                self.out += b"T" + struct.pack("<i", len(value)) + value
                self.memo()
            case list():
                self.out += b"]"
                self.memo()
                for start in range(0, len(value), 1000):  # in batches, as cPickle does
                    self.out += b"("
                    for item in value[start : start + 1000]:
                        self.write(item)
                    self.out += b"e"
            case dict():
                self.out += b"}"
                self.memo()
                self.out += b"("
                for key, item in value.items():
                    self.write(key)
                    self.write(item)
                self.out += b"u"
            case np.ndarray():
                self.write_array(value)
            case _:
                raise TypeError(f"no form for {type(value)}")

    def write_array(self, array: np.ndarray) -> None:
        self.out += b"cnumpy.core.multiarray\n_reconstruct\n"
        self.memo()
        self.out += b"cnumpy\nndarray\n"
        self.memo()
        self.out += b"K\x00\x85U\x01b\x87R"
        self.memo()
        self.out += b"(K\x01"
        for size in array.shape:
            self.write(size)
        self.out += {1: b"\x85", 2: b"\x86", 3: b"\x87"}[array.ndim]
        self.out += b"cnumpy\ndtype\n"
        self.memo()
        code = array.dtype.str[1:].encode()
        self.out += b"U" + bytes([len(code)]) + code + b"K\x00K\x01\x87R"
        self.memo()
        self.out += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        self.write(array.tobytes())
        self.out += b"tb"


def python2_pickle(value: object) -> bytes:
    """Return the bytes of a Python 2 pickle."""
    pickler = Python2Pickler()
    pickler.write(value)
    return bytes(pickler.out) + b"."


def batch_record(name: str, count: int, *, first: int = 0) -> dict[bytes, object]:
    """Return one batch file's content: label and pixels tell the image's number."""
    classes = len(KINDS[name].names)
    numbers = np.arange(first, first + count)
    images = np.random.default_rng(first).integers(0, 256, (count, 3072), np.uint8)
    images[:, 0], images[:, 1] = numbers % 256, numbers // 256
    labels = [int(x) for x in numbers % classes]
    fine = {b"labels": labels} if name == "Cifar10" else {b"fine_labels": labels}
    filenames = [f"image_{number:05d}.png".encode() for number in numbers]
    return {b"batch_label": b"made", **fine, b"data": images, b"filenames": filenames}


def write_cifar(root: Path, name: str = "Cifar10", *, count: int = 20) -> Path:
    """Write a whole set, ``count`` images a file; return its folder."""
    layout = KINDS[name].layout
    folder = root / layout.folder
    folder.mkdir(parents=True)
    for number, file in enumerate((*layout.train, *layout.test)):
        record = batch_record(name, count, first=number * count)
        (folder / file).write_bytes(python2_pickle(record))
    names = {layout.names_key.encode(): [x.encode() for x in KINDS[name].names]}
    for file in layout.meta:
        (folder / file).write_bytes(python2_pickle({b"num_vis": 3072, **names}))
    return folder

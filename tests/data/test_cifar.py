"""CIFAR-10 and CIFAR-100: official files, copies, hostile files, and the download."""

import hashlib
import io
import logging
import os
import pickle
import random
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from cifar_files import KINDS, Python2Pickler, batch_record, python2_pickle, write_cifar
from lightning.pytorch.utilities import rank_zero_only

from resnet_hub.data import unpickle
from resnet_hub.data.arrays import ArrayDataset
from resnet_hub.data.batches import Selection
from resnet_hub.data.cifar import Cifar10, Cifar100
from resnet_hub.data.module import open_data
from resnet_hub.data.settings import DataSettings
from resnet_hub.data.unpickle import read_pickle
from resnet_hub.errors import BadData, CorruptFile, DataMissing, InvalidSetting, ResNetHubError
from resnet_hub.preprocess import CIFAR10_MEAN, CIFAR10_STD, Preprocess


def at(root: Path, **settings: Any) -> DataSettings:
    return DataSettings(root=str(root), download=False, **settings)


def one_line(error: pytest.ExceptionInfo[ResNetHubError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# ---- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_the_official_facts_are_torchvisions(name: str) -> None:
    official = getattr(torchvision.datasets, name.upper())
    layout = KINDS[name].layout
    assert layout.folder == official.base_folder
    assert list(layout.train.items()) == [tuple(x) for x in official.train_list]
    assert list(layout.test.items()) == [tuple(x) for x in official.test_list]
    assert layout.meta == {official.meta["filename"]: official.meta["md5"]}
    assert layout.names_key == official.meta["key"]


def test_class_names_are_known_before_reading_in_the_official_order() -> None:
    assert Cifar10().labels == [
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ]
    labels = Cifar100().labels
    assert len(set(labels)) == 100
    assert labels == sorted(labels)
    assert (labels[0], labels[1], labels[50], labels[99]) == (
        "apple",
        "aquarium_fish",
        "mouse",
        "worm",
    )


@pytest.mark.parametrize("name", KINDS)
def test_every_image_and_label_is_read_in_the_order_of_the_files(name: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, name, count=1100)
    module = KINDS[name](at(tmp_path)).open()
    files = len(module.layout.train)
    train, test = module.splits["train"], module.splits["test"]
    assert isinstance(train, ArrayDataset)
    assert isinstance(test, ArrayDataset)
    assert (len(train), len(test)) == (1100 * files, 1100)
    assert train.images.shape == (1100 * files, 3, 32, 32)
    assert train.images.dtype is torch.uint8
    numbers = torch.arange(1100 * files)
    assert torch.equal(train.images[:, 0, 0, 0], (numbers % 256).to(torch.uint8))
    assert torch.equal(train.images[:, 0, 0, 1], (numbers // 256).to(torch.uint8))
    assert torch.equal(train.labels, numbers % len(module.names))
    last = batch_record(name, 1100, first=1100 * files)
    assert torch.equal(test.images.flatten(1), torch.from_numpy(last[b"data"]))
    assert test.labels.tolist() == last[b"labels" if name == "Cifar10" else b"fine_labels"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_copies_written_by_python_3_are_read_too(tmp_path: Path, protocol: int) -> None:
    folder = write_cifar(tmp_path)
    record = {k.decode(): v for k, v in batch_record("Cifar10", 30).items()}
    record["data"] = np.asarray(record["data"])
    (folder / "test_batch").write_bytes(pickle.dumps(record, protocol))
    test = Cifar10(at(tmp_path)).open().split("test")
    assert isinstance(test, ArrayDataset)
    assert torch.equal(test.images.flatten(1), torch.from_numpy(record["data"]))
    assert test.labels.tolist() == record["labels"]


def test_reading_equals_what_pickle_makes_of_the_same_bytes(tmp_path: Path) -> None:
    record = batch_record("Cifar10", 300)
    path = tmp_path / "file"
    path.write_bytes(python2_pickle(record))
    theirs = pickle.loads(path.read_bytes(), encoding="bytes")
    ours = read_pickle(path)
    assert [key.encode() for key in ours] == list(theirs)
    assert np.array_equal(ours["data"], theirs[b"data"])
    for key in ("batch_label", "labels", "filenames"):
        assert ours[key] == theirs[key.encode()]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values_of_python_3_equal_what_pickle_makes_of_them(
    tmp_path: Path, protocol: int
) -> None:
    value = {
        "numbers": [0, 255, 256, 65535, 65536, -1, -(2**31), 2**31 - 1, True, False, None],
        "texts": ["", "é", "x" * 300, "same", "same"],
        "nested": [[], [[]], {}, {"a": [1, (1, 2, 3), (), (1,), (1, 2), (1, 2, 3, 4)]}],
        "one": [1],
        "array": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        "by column": np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    }
    if protocol > 2:
        value["bytes"] = [b"", b"\x00\xff" * 200]
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps(value, protocol))
    ours = read_pickle(path)
    for key in ("array", "by column"):
        assert np.array_equal(ours.pop(key), value.pop(key))
    assert ours == value


def test_any_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_cifar(tmp_path / "sets")
    assert len(Cifar10(DataSettings(root="~/sets", download=False)).open().split("test")) == 20


@pytest.mark.fault("D8")
def test_a_copy_is_used_with_a_warning_that_says_it_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_cifar(tmp_path)
    module = Cifar10(at(tmp_path))
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        module.open()
    (message,) = [record.getMessage() for record in caplog.records]
    assert str(folder) in message
    assert "7 of 7 files differ" in message
    assert "data_batch_1" in message
    assert "not CIFAR-10 figures" in message
    assert "\n" not in message
    assert module.described == "CIFAR-10 (other files)"


def test_official_files_are_used_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cifar(tmp_path, "Cifar100")
    sums = {x.name: hashlib.md5(x.read_bytes()).hexdigest() for x in folder.iterdir()}
    for part in ("train", "test", "meta"):
        names = getattr(Cifar100.layout, part)
        for name in names:
            monkeypatch.setitem(names, name, sums[name])
    module = Cifar100(at(tmp_path))
    with caplog.at_level(logging.DEBUG, "resnet_hub"):
        module.open()
    assert caplog.records == []
    assert module.described == "CIFAR-100"
    (folder / "test").write_bytes((folder / "test").read_bytes() + b"\n")
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        Cifar100(at(tmp_path)).open()
    assert "1 of 3 files differ from the official ones by their MD5 sums (test)" in caplog.text


def test_of_several_ranks_one_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        assert Cifar10(at(tmp_path)).described == "CIFAR-10 (other files)"
    assert caplog.records == []


def test_images_held_out_make_a_stratified_validation_split(tmp_path: Path) -> None:
    write_cifar(tmp_path, count=40)
    module = Cifar10(at(tmp_path, held_out=50), seed=1).open()
    val, train = module.splits["val"], module.splits["train"]
    assert isinstance(val, ArrayDataset)
    assert (len(train), len(val)) == (150, 50)
    assert val[Selection(0, torch.arange(50))].labels.bincount().tolist() == [5] * 10
    assert set(Cifar10(at(tmp_path, held_out=0)).open().splits) == {"train", "test"}
    with pytest.raises(InvalidSetting, match=r"data\.held_out: 200 is not 0 to 199"):
        Cifar10(at(tmp_path, held_out=200)).open()


def test_preprocessing_is_the_usual_unless_the_papers_is_asked_for(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    usual = Preprocess(size=32, resize=None, mean=CIFAR10_MEAN, std=CIFAR10_STD)
    assert Cifar10().preprocess == usual  # nothing read for it
    module = Cifar10(at(tmp_path, per_pixel_mean=True))
    own = module.preprocess
    train = module.splits["train"]
    assert isinstance(train, ArrayDataset)
    expected = train.images.double().mean(0).flatten() / 255
    assert own.mean == tuple(round(x, 6) for x in expected.tolist())
    assert own.std == (0.2507,) * 3
    assert module.augment == "pad_crop_flip"


def test_a_recipe_names_the_data_set(tmp_path: Path) -> None:
    write_cifar(tmp_path, "Cifar100")
    module = open_data(at(tmp_path, name="Cifar100"), seed=4)
    assert isinstance(module, Cifar100)
    assert module.seed == 4


def test_opening_twice_reads_once(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    module = Cifar10(at(tmp_path)).open()
    splits = module.splits
    module.setup("fit")
    assert module.splits is splits


# ---- what is missing or wrong ------------------------------------------------------------------


def test_a_missing_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as error:
        Cifar10(at(tmp_path)).open()
    message = one_line(error)
    assert str(tmp_path / "cifar-10-batches-py") in message
    assert "data.root" in message
    assert "data.download" in message


def test_a_missing_file_is_named_and_nothing_is_downloaded_over_the_rest(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    (folder / "data_batch_3").unlink()
    (folder / "batches.meta").unlink()
    before = sorted(folder.iterdir())
    with pytest.raises(DataMissing, match=r"lacks data_batch_3, batches\.meta") as error:
        Cifar10(DataSettings(root=str(tmp_path), download=True)).open()
    assert str(folder) in one_line(error)
    assert sorted(folder.iterdir()) == before


def test_a_label_that_is_endless_to_print_is_refused_by_its_type(tmp_path: Path) -> None:
    folder, nested = write_cifar(tmp_path), ()
    for _ in range(200):
        nested = (nested, nested)
    record = batch_record("Cifar10", 20)
    record[b"labels"] = [nested] * 20
    (folder / "data_batch_2").write_bytes(pickle.dumps(record, 2))
    with pytest.raises(BadData, match="data_batch_2: image 0 has a tuple as label, not one of"):
        Cifar10(at(tmp_path)).open()
    names = {b"label_names": [nested] * 10}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, 2))
    with pytest.raises(BadData, match=r"batches\.meta: its class names are not those of CIFAR-10"):
        Cifar10(at(tmp_path)).open()


@pytest.mark.fault("D9")
@pytest.mark.parametrize(
    ("label", "shown"),
    [
        (10, "the label 10"),
        (-1, "the label -1"),
        (-100, "the label -100"),
        (None, "a NoneType as label"),
    ],
)
def test_a_label_of_no_class_is_refused_by_file_and_image(
    tmp_path: Path, label: object, shown: str
) -> None:
    folder = write_cifar(tmp_path)
    record = batch_record("Cifar10", 20)
    record[b"labels"] = [*range(7), label, *[0] * 12]
    (folder / "data_batch_2").write_bytes(python2_pickle(record))
    with pytest.raises(BadData, match=f"data_batch_2: image 7 has {shown}, not one of 0 to 9"):
        Cifar10(at(tmp_path)).open()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({b"data": np.zeros((20, 3071), np.uint8)}, "'data' is no array of 3,072 bytes"),
        ({b"data": np.zeros((20, 3, 1024), np.uint8)}, "'data' is no array of 3,072 bytes"),
        ({b"data": np.zeros(3072, np.uint8)}, "'data' is no array of 3,072 bytes"),
        ({b"data": np.zeros((20, 3072), np.int8)}, "array of a type, that official files do not"),
        ({b"data": np.zeros((20, 384), np.float64)}, "array of a type, that official files do not"),
        ({b"data": [[0] * 3072] * 2}, "'data' is no array"),
        ({b"data": None}, "'data' is no array"),
        ({b"labels": [0] * 19}, "'labels' is no list of 20 labels"),
        ({b"labels": [0] * 21}, "'labels' is no list of 20 labels"),
        ({b"labels": b"0" * 20}, "'labels' is no list of 20 labels"),
        ({b"labels": [True] * 20}, "image 0 has a bool as label"),
        ({b"labels": [[0]] * 20}, "image 0 has a list as label"),
        ({b"data": np.zeros((0, 3072), np.uint8), b"labels": []}, "no list of 0 labels"),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused_by_name(
    tmp_path: Path, changes: dict[bytes, object], reason: str
) -> None:
    folder = write_cifar(tmp_path)
    path = folder / "data_batch_1"
    path.write_bytes(python2_pickle({**batch_record("Cifar10", 20), **changes}))
    with pytest.raises((CorruptFile, BadData), match=reason) as error:
        Cifar10(at(tmp_path)).open()
    assert str(path) in one_line(error)


def test_files_of_the_other_set_are_refused(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    (folder / "test_batch").write_bytes(python2_pickle(batch_record("Cifar100", 20)))
    with pytest.raises(CorruptFile, match="test_batch: 'labels' is no list"):
        Cifar10(at(tmp_path)).open()


@pytest.mark.parametrize("names", [[b"cat"] * 10, [], None, 3, [b"cat", 1]])
def test_other_class_names_are_refused(tmp_path: Path, names: object) -> None:
    folder = write_cifar(tmp_path)
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": names}))
    with pytest.raises(BadData, match="its class names are not those of CIFAR-10") as error:
        Cifar10(at(tmp_path)).open()
    assert "batches.meta" in one_line(error)


def test_a_failed_reading_leaves_nothing_half_opened(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path)
    good = (folder / "test_batch").read_bytes()
    (folder / "test_batch").write_bytes(good[:1000])
    module = Cifar10(at(tmp_path))
    with pytest.raises(CorruptFile):
        module.open()
    assert module.splits == {}
    (folder / "test_batch").write_bytes(good)
    assert len(module.open().splits) == 2


# ---- hostile files ---------------------------------------------------------------------------


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.mkdir, (str(self.marker),))


def bombs(marker: Path) -> dict[str, bytes]:
    """Return pickles that make the marker when ``pickle`` reads them."""
    made = {f"protocol {n}": pickle.dumps({"data": Bomb(marker)}, n) for n in range(6)}
    argument = f"S'{marker}'\n".encode()
    made["instance"] = b"(" + argument + b"ios\nmkdir\n."
    made["object"] = b"(cos\nmkdir\n" + argument + b"o."
    genuine = python2_pickle(batch_record("Cifar10", 3))
    made["hidden in a genuine file"] = genuine[:-2] + b"U\x01xcos\nmkdir\n(" + argument + b"tRu."
    return made


@pytest.mark.fault("D8")
@pytest.mark.parametrize("kind", bombs(Path("x")))
def test_a_bomb_is_refused_and_never_goes_off(tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    folder = write_cifar(tmp_path)
    path = folder / "data_batch_4"
    path.write_bytes(bombs(marker)[kind])
    with pytest.raises(CorruptFile) as error:
        Cifar10(at(tmp_path)).open()
    assert f"{path}: not a file of this data set: it" in one_line(error)
    assert not marker.exists()
    with path.open("rb") as file:  # it would have gone off
        pickle.load(file, encoding="latin1")
    assert marker.exists()


@pytest.mark.fault("D8")
@pytest.mark.parametrize(
    "name",
    [
        "os system", "posix system", "builtins eval", "__builtin__ eval", "builtins getattr",
        "numpy load", "numpy fromfile", "numpy.core.multiarray scalar", "numpy ndarray.tofile",
        "torch load", "copyreg _reconstructor", "codecs encode", "_codecs decode", "",
        "numpy.core.multiarray _reconstruct.__globals__", "resnet_hub.data.unpickle read_pickle",
    ],
)  # fmt: skip
def test_only_what_official_files_name_is_admitted(tmp_path: Path, name: str) -> None:
    path = tmp_path / "file"
    module, _, attribute = name.partition(" ")
    path.write_bytes(b"\x80\x02}U\x01xc%b\n%b\ns." % (module.encode(), attribute.encode()))
    with pytest.raises(CorruptFile, match=r"it names .*, which official files do not") as error:
        read_pickle(path)
    assert str(path) in one_line(error)


@pytest.mark.parametrize(
    ("programme", "reason"),
    [
        (b"", "cut short"),
        (b".", "damaged"),
        (b"N.", "no dictionary"),
        (b"].", "no dictionary"),
        (b"}", "cut short"),
        (b"}U\x01xK\x01", "cut short"),
        (b"}U\x05x.", "cut short"),
        (b"}T\xff\xff\xff\x7fx", "cut short"),
        (b"\x80\x02}q", "cut short"),
        (b"<html>", "the instruction b'<'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "the instruction b'v'"),
        (b"\x1f\x8b\x08\x00", r"the instruction b'\\x1f'"),
        (b"}K\x01K\x02s.", "keys that are no strings"),
        (b"}]]s.", "keys that are no strings"),
        (b"](U\x01xK\x01u.", "items without a dictionary"),
        (b"}K\x01a.", "items without a list"),
        (b"}(U\x01xu.", "damaged"),
        (b"a.", "takes what it has not given"),
        (b"}\x87.", "takes what it has not given"),
        (b"e.", "damaged"),
        (b"(}0.", "the instruction b'0'"),
        (b"}h\x07.", "damaged"),
        (b"cnumpy\nndarray\n)R.", "a call"),
        (b"cnumpy\nndarray\n(J\xff\xff\xff\x7ftR.", "a call"),
        (b"cnumpy\ndtype\nU\x02O8\x85R.", "of a type"),
        (b"cnumpy\ndtype\n)R.", "damaged"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "a call"),
        (b"c_codecs\nencode\nU\x01aX\x06\x00\x00\x00latin1\x86R.", "a call"),
        (b"}cnumpy\nndarray\nb.", "takes|damaged|fills"),
        (b"cnumpy\nndarray\n}U\x01xK\x01sb.", "damaged|fills"),
        (b"c" + b"x" * 5000, "damaged"),
        (b"cnumpy\xff\nndarray\n.", "damaged"),
        (b"NN\x93.", "names something by what is no text"),
        (b"cos\nsystem\n(S'true'\ntR.", "it names os.system"),
    ],
)
def test_a_broken_programme_is_refused_in_one_line(
    tmp_path: Path, programme: bytes, reason: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(programme)
    with pytest.raises(CorruptFile, match=reason) as error:
        read_pickle(path)
    assert str(path) in one_line(error)
    assert len(str(error.value)) < len(str(path)) + 200


def array_programme(shape: bytes, content: bytes) -> bytes:
    return (
        b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01" + shape + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89" + content + b"tbs."
    )


def test_an_array_holds_no_more_than_the_file_brings(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(array_programme(b"K\x02K\x03\x86", b"U\x06abcdef"))
    assert read_pickle(path)["data"].tolist() == [[97, 98, 99], [100, 101, 102]]
    for shape in (b"J\xff\xff\xff\x7f\x85", b"K\x02K\x02\x86", b"U\x01x\x85"):
        path.write_bytes(array_programme(shape, b"U\x06abcdef"))
        with pytest.raises(CorruptFile, match="damaged"):
            read_pickle(path)
    for content in (b"]", b"N", b"X\x06\x00\x00\x00abcdef"):
        path.write_bytes(array_programme(b"K\x06\x85", content))
        with pytest.raises(CorruptFile, match="damaged"):
            read_pickle(path)


def test_a_file_that_fills_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    monkeypatch.setattr(unpickle, "_MOST_INSTRUCTIONS", 10_000)
    path.write_bytes(b"]" * 20_000)
    with pytest.raises(CorruptFile, match="more than 10,000 instructions"):
        read_pickle(path)
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(2**30 + 1)  # a hole: it takes no room on the disk
    with pytest.raises(CorruptFile, match="larger than 1,073,741,824 bytes"):
        read_pickle(path)


def test_one_long_text_used_over_and_over_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    text = b"X\x00\x04\x00\x00" + b"a" * 1024 + b"q\x00"
    encode = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    path.write_bytes(text + encode * 100 + b".")
    with pytest.raises(CorruptFile, match="encodes more than it holds"):
        read_pickle(path)
    path.write_bytes(b"}" + text + b"}(" + b"h\x00N" * 100 + b"u.")
    with pytest.raises(CorruptFile, match="keys that are no names"):
        read_pickle(path)


def test_a_key_that_takes_for_ever_to_hash_is_refused(tmp_path: Path) -> None:
    # Tuples of tuples: hashing this one would take 2⁶⁰ steps.
    path = tmp_path / "file"
    path.write_bytes(b"}" + b")" + b"q\x00h\x00\x86" * 60 + b"K\x01s.")
    with pytest.raises(CorruptFile, match="keys that are no strings"):
        read_pickle(path)


def test_a_cut_or_changed_file_is_refused_or_read_but_never_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = python2_pickle(batch_record("Cifar10", 2))
    chance = random.Random(0)
    for end in [*range(200), *(chance.randrange(len(whole)) for _ in range(100))]:
        path.write_bytes(whole[:end])
        with pytest.raises(CorruptFile):
            read_pickle(path)
    header = [i for i in range(len(whole)) if not 400 < i < len(whole) - 200]
    for _ in range(2000):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.choice(header)] = chance.randrange(256)
        path.write_bytes(changed)
        with suppress(CorruptFile):
            assert type(read_pickle(path)) is dict


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(CorruptFile, match="cannot be read") as error:
            read_pickle(path)
        assert str(path) in one_line(error)


def test_the_test_files_pickler_writes_what_pickle_reads() -> None:
    pickler = Python2Pickler()
    value = {b"a": [1, 300, 70_000, -1, None, True], b"b": b"x" * 300, b"c": []}
    pickler.write(value)
    assert pickle.loads(bytes(pickler.out) + b".", encoding="bytes") == value


# ---- download ----------------------------------------------------------------------------------


@dataclass
class Server:
    """Serves one archive on the loopback interface; what it sends can be changed."""

    archive: bytes
    status: int = 200
    send: int | None = None
    before_answer: Callable[[int], None] = lambda number: None
    requests: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    source = write_cifar(tmp_path / "source")
    (source / "readme.html").write_text("not asked for")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        tar.add(source, source.name)
    state = Server(file.getvalue())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with state.lock:
                state.requests += 1
                number = state.requests
            state.before_answer(number)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.archive)))
            self.end_headers()
            if state.status == 200:
                self.wfile.write(state.archive[: state.send])
            self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_port}/cifar-10-python.tar.gz"
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", state.url)
        md5 = hashlib.md5(state.archive).hexdigest()
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5)
        yield state
        http.shutdown()
        thread.join()


def downloading(root: Path) -> Cifar10:
    return Cifar10(DataSettings(root=str(root), download=True))


def only_whole_folders(root: Path) -> list[str]:
    """Return what lies in the root, hidden leftovers included."""
    return sorted(x.name for x in root.iterdir()) if root.exists() else []


def test_a_missing_set_is_downloaded_checked_and_there_for_the_next_time(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a" / "b"
    assert len(downloading(root).open().split("train")) == 100
    assert only_whole_folders(root) == ["cifar-10-batches-py"]
    folder = root / "cifar-10-batches-py"
    assert sorted(x.name for x in folder.iterdir()) == sorted(Cifar10.layout.sums)
    output = capfd.readouterr()
    assert output.out == ""
    assert "100%" in output.err
    asked = server.requests
    downloading(root).open()
    assert server.requests == asked


def test_lightnings_hook_downloads_without_reading(server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    module = downloading(root)
    module.prepare_data()
    assert only_whole_folders(root) == ["cifar-10-batches-py"]
    assert module.splits == {}


def test_nothing_is_downloaded_where_it_is_forbidden(server: Server, tmp_path: Path) -> None:
    module = Cifar10(at(tmp_path / "root"))
    for step in (module.prepare_data, module.open):
        with pytest.raises(DataMissing):
            step()
    assert server.requests == 0
    assert not (tmp_path / "root").exists()


def refused(root: Path, kind: type[ResNetHubError]) -> str:
    with pytest.raises(kind) as error:
        downloading(root).open()
    assert only_whole_folders(root) == []
    message = one_line(error)
    assert "by hand" in message
    assert str(root) in message
    return message


@pytest.mark.fault("D7")
def test_an_archive_with_another_checksum_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", "0" * 32)
    message = refused(tmp_path / "root", CorruptFile)
    assert server.url in message
    assert "not the official archive (MD5 00000" in message


def test_a_flipped_bit_is_refused(server: Server, tmp_path: Path) -> None:
    middle = len(server.archive) // 2
    changed = bytearray(server.archive)
    changed[middle] ^= 1
    server.archive = bytes(changed)
    refused(tmp_path / "root", CorruptFile)


@pytest.mark.fault("D7")
@pytest.mark.parametrize("sent", [0, 1000])
def test_a_cut_download_is_refused_and_the_next_one_succeeds(
    server: Server, tmp_path: Path, sent: int
) -> None:
    server.send = sent
    refused(tmp_path / "root", CorruptFile)
    server.send = None
    assert len(downloading(tmp_path / "root").open().split("test")) == 20


def test_a_server_that_refuses_is_a_line_with_the_reason(server: Server, tmp_path: Path) -> None:
    server.status = 404
    message = refused(tmp_path / "root", DataMissing)
    assert "404" in message
    assert server.url in message


def test_no_network_is_a_line_with_the_place_and_the_way_out(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9/cifar-10-python.tar.gz"
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", nowhere)
    root = tmp_path / "root"
    message = refused(root, DataMissing)
    assert message.startswith(f"{root / 'cifar-10-batches-py'} is not there")
    assert "extract cifar-10-python.tar.gz" in message


def test_a_root_that_cannot_be_made_is_a_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataMissing, match=r"is not there, and .* could not be fetched") as error:
        downloading(tmp_path / "file").open()
    one_line(error)


@pytest.mark.fault("D7")
@pytest.mark.parametrize("lacking", ["data_batch_5", "cifar-10-batches-py"])
def test_an_archive_of_something_else_is_refused_even_with_its_checksum(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    file = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(server.archive)) as old,
        tarfile.open(fileobj=file, mode="w:gz") as new,
    ):
        for member in old.getmembers():
            if lacking not in member.name:
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_5")
        if lacking == "data_batch_5":
            member.type = tarfile.DIRTYPE
            new.addfile(member)
    server.archive = file.getvalue()
    md5 = hashlib.md5(server.archive).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5)
    refused(tmp_path / "root", CorruptFile)


@pytest.mark.fault("D7")
def test_paths_that_lead_out_of_the_archive_are_not_followed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(server.archive)) as old,
        tarfile.open(fileobj=file, mode="w:gz") as new,
    ):
        for name in ("../../escaped", str(tmp_path / "escaped"), "cifar-10-batches-py/../escaped"):
            member = tarfile.TarInfo(name)
            member.size = 3
            new.addfile(member, io.BytesIO(b"out"))
        for member in old.getmembers():
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    server.archive = file.getvalue()
    md5 = hashlib.md5(server.archive).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5)
    root = tmp_path / "root"
    downloading(root).prepare_data()
    assert list(tmp_path.rglob("escaped")) == []


def test_two_that_download_at_once_end_with_one_whole_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # threads may restore it in the wrong order
    root = tmp_path / "root"
    together = threading.Barrier(2)

    def wait_for_the_other(number: int) -> None:
        if number <= 2:  # one of each: both have looked and found nothing
            together.wait(timeout=20)

    server.before_answer = wait_for_the_other
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(downloading(root).open().split("train"))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [100, 100]
    assert only_whole_folders(root) == ["cifar-10-batches-py"]


def test_the_set_that_another_process_placed_meanwhile_stays(
    server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "root"

    def place_another(number: int) -> None:
        if number == 2:
            write_cifar(root, count=3)

    server.before_answer = place_another
    assert len(downloading(root).open().split("train")) == 15
    assert only_whole_folders(root) == ["cifar-10-batches-py"]


# ---- real data ---------------------------------------------------------------------------------


@pytest.mark.data
def test_true_cifar_10_pixels_are_read_from_a_copy_with_a_warning(
    lossless_cifar10: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "resnet_hub"):
        module = Cifar10(at(lossless_cifar10)).open()
    assert "figures measured on this copy are not CIFAR-10 figures" in caplog.text
    train, test = module.splits["train"], module.splits["test"]
    assert isinstance(train, ArrayDataset)
    assert isinstance(test, ArrayDataset)
    assert (len(train), len(test)) == (5 * 1017, 1017)
    # As everyone who has opened data_batch_1 and test_batch has seen them.
    assert train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert train.images[0, 0, 0, :3].tolist() == [59, 43, 50]


@pytest.mark.data
def test_the_constants_are_the_statistics_of_true_cifar_10_pixels(lossless_cifar10: Path) -> None:
    train = Cifar10(at(lossless_cifar10)).open().split("train")
    assert isinstance(train, ArrayDataset)
    pixels = train.images.double().transpose(0, 1).flatten(1) / 255
    # A tenth of the images: the means of images scatter by about 0.12, so those of 5,085 by 0.002.
    assert torch.allclose(pixels.mean(1), torch.tensor(CIFAR10_MEAN).double(), atol=0.007)
    assert torch.allclose(pixels.std(1), torch.tensor(CIFAR10_STD).double(), atol=0.007)

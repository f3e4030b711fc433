"""Training state as JSON and tensors."""

import json
import math
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch

from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.saving.state import pack, unpack


def there_and_back(state: object) -> object:
    packed, tensors = pack(state)
    return unpack(json.loads(json.dumps(packed, allow_nan=False)), tensors)


@pytest.mark.parametrize(
    "state",
    [
        None,
        True,
        7,
        -0.1,
        1e-300,
        "a text\n\udc80",
        [],
        {},
        (),
        [1, [2, (3, None)], {"a": (1,)}],
        {0: {"step": 1}, 1: "x", (1, "a"): [2], None: 3},
        {"$tensor": 1, "b": {"$": 2}},
        {"a": {"b.c": 1}, "a.b": {"c": 2}},
        math.inf,
        {"x": [-math.inf]},
    ],
)
def test_plain_values_come_back_as_they_were(state: object):
    assert there_and_back(state) == state
    assert type(there_and_back(state)) is type(state)


def test_what_is_no_number_comes_back_as_none_of_them():
    assert math.isnan(there_and_back({"x": math.nan})["x"])


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_tensors_come_back_bit_by_bit(dtype: torch.dtype, shape: tuple[int, ...]):
    tensor = torch.rand(shape).mul(9).to(dtype)
    found = there_and_back({"a": [tensor], 3: tensor})
    assert found.keys() == {"a", 3}
    for other in (found["a"][0], found[3]):
        assert (other.dtype, other.shape) == (dtype, shape)
        assert torch.equal(other, tensor)


def test_two_tensors_of_one_path_are_told_apart():
    state = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1), "b'": torch.ones(1) * 2}}
    found = there_and_back(state)
    assert [found["a.b"].item(), found["a"]["b"].item(), found["a"]["b'"].item()] == [0, 1, 2]


def test_mappings_of_other_kinds_and_numpys_numbers_come_back_as_plain_ones():
    state = {
        "a": OrderedDict(b=1),
        "c": defaultdict(list, {"d": [2]}),
        "e": np.float64(0.5),
        "f": np.int64(3),
    }
    assert there_and_back(state) == {"a": {"b": 1}, "c": {"d": [2]}, "e": 0.5, "f": 3}


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", print, object(), 1j, np.zeros(3)])
def test_anything_else_is_refused_by_its_place(value: object):
    with pytest.raises(InvalidSetting, match=r"^callbacks\.Own\.0\.x: \w+ is neither plain values"):
        pack({"Own": [{"x": value}]}, "callbacks")


def test_a_sparse_tensor_is_refused_by_its_place():
    with pytest.raises(InvalidSetting, match=r"^a: a torch\.sparse_coo tensor cannot be kept"):
        pack({"a": torch.zeros(2, 2).to_sparse()})


@pytest.mark.parametrize(
    "content",
    [
        {"$tensor": "gone"},
        {"$tensor": ["a"]},
        {"$number": "1"},
        {"$number": {}},
        {"$items": [[1]]},
        {"$items": [[[], 1]]},
        {"$items": 3},
        {"$tuple": 3},
        {"$code": "print()"},
    ],
)
def test_what_pack_never_writes_is_refused(content: object):
    with pytest.raises(CorruptFile):
        unpack([content], {})

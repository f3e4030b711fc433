"""Nested training state as JSON and tensors, and back."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from resnet_hub.errors import CorruptFile, InvalidSetting

_TENSOR, _TUPLE, _NUMBER, _ITEMS = "$tensor", "$tuple", "$number", "$items"
_NUMBERS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def pack(state: Any, where: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Split nested state into what JSON holds and tensors by name.

    Numbers, texts, truth values, ``None``, lists, tuples, mappings and tensors come back from
    :func:`unpack` as they were; numbers of numpy come back as Python's.

    Args:
        state: What to split.
        where: What messages and the tensors' names begin with.

    Raises:
        InvalidSetting: It holds anything else; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(state, where, tensors), tensors


def unpack(content: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put together what :func:`pack` split.

    Raises:
        CorruptFile: A tensor is missing, or a form that :func:`pack` does not write.
    """
    if isinstance(content, list):
        return [unpack(item, tensors) for item in content]
    if not isinstance(content, dict):
        return content
    mark = next(iter(content), "")
    if not mark.startswith("$"):
        return {name: unpack(item, tensors) for name, item in content.items()}
    value = content[mark]
    try:
        if mark == _TENSOR:
            return tensors[value]
        if mark == _NUMBER:
            return _NUMBERS[value]
        if mark == _TUPLE:
            return tuple(unpack(item, tensors) for item in value)
        if mark == _ITEMS:
            return {unpack(key, tensors): unpack(item, tensors) for key, item in value}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{mark} of {value!r} says nothing") from error
    raise CorruptFile(f"{mark!r} is no mark of this format")


def _packed(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_quantized:
            raise InvalidSetting(f"{where}: a {value.layout} tensor cannot be kept")
        while where in tensors:  # {"a.b": 1, "a": {"b": 2}} has one path for two
            where += "'"
        tensors[where] = value
        return {_TENSOR: where}
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        value = value.item()  # a number of numpy's
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_NUMBER: str(value)}
    if isinstance(value, list | tuple):
        items = [_packed(item, _joined(where, i), tensors) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, Mapping):
        packed = [(k, _packed(item, _joined(where, k), tensors)) for k, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return dict(packed)
        return {_ITEMS: [[_packed(key, where, tensors), item] for key, item in packed]}
    raise InvalidSetting(f"{where}: {type(value).__name__} is neither plain values nor tensors")


def _joined(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)

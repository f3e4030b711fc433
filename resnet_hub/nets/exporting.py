"""Nets as files that run without this package: ONNX and torch.export's programs."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Literal, cast

import torch
from torch import Tensor

from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import CARD_NAME, Card
from resnet_hub.weights.provenance import Provenance

Format = Literal["onnx", "torch-export"]
Runner = Callable[[Tensor], Tensor]

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
"""Names of what goes in and comes out, and of the axis that takes any length from 1."""

_SHAPES = ({0: torch.export.Dim(BATCH, min=1)},)


@dataclass(frozen=True)
class Exporter:
    """One form of file.

    Attributes:
        write: Returns the file's content for a net. It holds the card's text too, by the name
            ``config.json``, since the program begins after preprocessing.
        read: Returns such content as a function from preprocessed images to logits.
        suffix: How the file's name ends.
        runtime: The package that runs it.
        needs: Packages that this one does not bring.
    """

    write: Callable[[ResNet, Provenance], bytes]
    read: Callable[[bytes], Runner]
    suffix: str
    runtime: str
    needs: tuple[str, ...] = ()


def find_exporter(name: Format) -> Exporter:
    """Return what writes and reads a form of file.

    Raises:
        InvalidSetting: A package for it is not installed.
    """
    exporter = EXPORTERS[name]
    if missing := [package for package in exporter.needs if find_spec(package) is None]:
        raise InvalidSetting(
            f"{name}: needs {', '.join(missing)}; install with `pip install 'resnet-hub[{name}]'`"
        )
    return exporter


def to_torch_export(net: ResNet, origin: Provenance) -> bytes:
    """Return a net as a ``.pt2`` file's content, which ``torch.export.load`` reads."""
    file = io.BytesIO()
    with _silence():
        torch.export.save(_program(net), file, extra_files={CARD_NAME: _card(net, origin)})
    return file.getvalue()


def run_torch_export(content: bytes) -> Runner:
    """Return :func:`to_torch_export`'s content as a function."""
    with _silence():
        program = torch.export.load(io.BytesIO(content))
    return cast(Runner, program.module())


def to_onnx(net: ResNet, origin: Provenance) -> bytes:
    """Return a net as an ``.onnx`` file's content: one file, weights included."""
    with _silence():
        program = torch.onnx.export(
            _program(net),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=_SHAPES,  # once more: from here the axis has its name
            verbose=False,
        )
    if program is None:
        raise InvalidSetting("onnx: this version of torch returned no program")
    program.model.metadata_props[CARD_NAME] = _card(net, origin)
    return cast(bytes, program.model_proto.SerializeToString())


def run_onnx(content: bytes) -> Runner:
    """Return :func:`to_onnx`'s content as a function, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run([OUTPUT], {INPUT: images.numpy()})
        return torch.from_numpy(logits)

    return run


EXPORTERS: Mapping[Format, Exporter] = MappingProxyType(
    {
        "onnx": Exporter(
            to_onnx, run_onnx, ".onnx", "onnxruntime", ("onnx", "onnxscript", "onnxruntime")
        ),
        "torch-export": Exporter(to_torch_export, run_torch_export, ".pt2", "torch"),
    }
)
"""Every form of file, by its name on the command line."""


def _program(net: ResNet) -> torch.export.ExportedProgram:
    still = deepcopy(net).cpu().eval()
    size = net.preprocess.size
    # Two images: torch.export takes a single one's axis for a constant.
    images = torch.zeros(2, net.architecture.in_channels, size, size)
    return torch.export.export(still, (images,), dynamic_shapes=_SHAPES)


def _card(net: ResNet, origin: Provenance) -> str:
    return Card(
        architecture=net.architecture,
        preprocess=net.preprocess,
        labels=net.labels,
        provenance=origin,
    ).to_json()


@contextmanager
def _silence() -> Iterator[None]:
    # The exporters warn and log of their own insides, which no one who exports can change.
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

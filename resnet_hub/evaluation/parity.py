"""Proof that two forms of a net are one function: the largest difference between their logits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from resnet_hub.architecture import Architecture
from resnet_hub.data.images import read_image
from resnet_hub.errors import Diverged, WeightsMismatch
from resnet_hub.evaluation.equations import cifar_logits
from resnet_hub.nets.resnet import ResNet
from resnet_hub.randomness import integers, sample_keys
from resnet_hub.weights.convert import AKAMASTER, Converted
from resnet_hub.weights.match import matched
from resnet_hub.weights.peers import Peer, peer_name
from resnet_hub.weights.provenance import Parity

TOLERANCE = 1e-3
"""Largest difference that rounding may make, as a fraction of the largest logit."""

_STREAM, _PSEUDO_IMAGES, _BATCH = 0, 2, 8


@dataclass(frozen=True)
class Inputs:
    """What two nets are compared on.

    Attributes:
        tensor: float32 ``(N, in_channels, size, size)``, preprocessed.
        kind: What it shows, for people.
    """

    tensor: Tensor
    kind: str

    @classmethod
    def for_net(cls, net: ResNet, pictures: Sequence[Path] = ()) -> "Inputs":
        """Preprocess pictures as the net does or, without any, keyed noise of uint8 pixels.

        Raises:
            BadData: A file is no picture.
        """
        if pictures:
            mode: Literal["L", "RGB"] = "L" if net.architecture.in_channels == 1 else "RGB"
            images = [net.preprocess(read_image(path, mode=mode)) for path in pictures]
            return cls(torch.stack(images), "pictures")
        shape = (_PSEUDO_IMAGES, net.preprocess.channels, net.preprocess.size, net.preprocess.size)
        keys = sample_keys(0, 0, torch.arange(torch.Size(shape).numel()))
        pixels = integers(keys, _STREAM, 256).to(torch.uint8).view(shape)
        return cls(net.preprocess.normalise(pixels), "noise")


def compare(
    net: ResNet, other: Callable[[Tensor], Tensor], *, inputs: Inputs, against: str, where: str
) -> Parity:
    """Compare a net's logits with those of another form of it, on one image and on several at once.

    Args:
        net: The net, in evaluation mode.
        other: The other form; maps preprocessed images to logits.
        inputs: What to compare on.
        against: What the other form is, for people.
        where: Where the net comes from, for messages.

    Raises:
        WeightsMismatch: They differ by more than rounding explains.
        Diverged: The logits are not finite, so nothing can be compared.
    """
    largest = scale = 0.0
    with torch.inference_mode():
        for batch in (inputs.tensor[:1], *torch.split(inputs.tensor, _BATCH)):
            ours, theirs = net(batch), other(batch)
            largest = max(largest, float((ours - theirs).abs().max()))
            scale = max(scale, float(ours.abs().max()))
            if not (ours.isfinite().all() and theirs.isfinite().all()):
                raise Diverged(
                    f"{where}: nothing is written, the net's logits are not finite "
                    "(has the training diverged?)"
                )
    if largest > TOLERANCE * scale:
        raise WeightsMismatch(
            f"{where}: nothing is written, logits of up to {scale:.3g} differ by {largest:.3g} "
            f"from {against}, which is another function; please report it"
        )
    return Parity(against=f"{against}, on {inputs.kind}", largest=largest, n=len(inputs.tensor))


def compare_converted(
    net: ResNet, found: Converted, *, inputs: Inputs, where: str
) -> Parity | None:
    """Compare a net with another form of the checkpoint that it was converted from.

    That is the library's own net, filled with the file's tensors, or where no library has it the
    paper's equations on them; ``None`` where there is neither.

    Args:
        net: The net, in evaluation mode, its head as wide as the file's.
        found: The checkpoint.
        inputs: What to compare on.
        where: Where the checkpoint lies, for messages.

    Raises:
        WeightsMismatch: They are two functions.
        Diverged: The logits are not finite.
    """
    if peer := find_peer(net.architecture, found.peers):
        return compare_with_peer(net, peer, tensors=found.original, inputs=inputs, where=where)
    own = net.architecture
    if found.form == AKAMASTER and (own.form, own.block, own.shortcut) == (
        "residual",
        "basic",
        "A",
    ):
        against = "the equations of 1512.03385 on the file's tensors"
        theirs = partial(cifar_logits, {n: t.float() for n, t in found.original.items()})
        return compare(net, theirs, inputs=inputs, against=against, where=where)
    return None


def find_peer(architecture: Architecture, peers: Iterable[Peer]) -> Peer | None:
    """Return the first of these libraries that has the net and is installed."""
    return next((p for p in peers if peer_name(architecture, p) and _version(p)), None)


def compare_with_peer(
    net: ResNet, peer: Peer, *, tensors: Mapping[str, Tensor], inputs: Inputs, where: str
) -> Parity:
    """Compare a net with a library's own, built there.

    Args:
        net: The net, in evaluation mode.
        peer: The library; it is installed and has the net.
        tensors: What the library's net is filled with, under its names.
        inputs: What to compare on.
        where: Where the tensors come from, for messages.

    Raises:
        WeightsMismatch: It is another function, or takes other tensors.
        Diverged: The logits are not finite.
    """
    against = f"{peer} {_version(peer)}'s {peer_name(net.architecture, peer)}"
    theirs = _built(net.architecture, peer)
    theirs.load_state_dict(matched(tensors, theirs.state_dict(), where), assign=True)
    return compare(net, theirs.eval(), inputs=inputs, against=against, where=where)


def _built(architecture: Architecture, peer: Peer) -> nn.Module:
    name = peer_name(architecture, peer)
    # timm's blurs hold their filters outside the state dict that everything else is loaded from.
    with torch.device("cpu" if architecture.antialias == "blur" else "meta"):
        if peer == "torchvision":
            import torchvision

            net = torchvision.models.get_model(name, num_classes=architecture.classes)
        else:
            import timm

            net = timm.create_model(
                str(name), num_classes=architecture.classes, in_chans=architecture.in_channels
            )
    return cast(nn.Module, net)


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None

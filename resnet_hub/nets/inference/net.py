"""A net that answers and does not learn: folded, packed and fused, checked against its origin."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.inference import kernels
from resnet_hub.nets.inference.body import Body
from resnet_hub.nets.inference.folding import CannotFold
from resnet_hub.nets.inference.packing import Fused

if TYPE_CHECKING:
    from resnet_hub.nets.resnet import ResNet

Precision = Literal["32-true", "bf16-true"]
Way = Literal["fused", "folded", "plain"]
Run = Callable[[Tensor], Tensor]

TOLERANCES: Mapping[Precision, float] = {"32-true": 1e-4, "bf16-true": 0.1}
"""Largest difference from the net's logits on noise, as a fraction of the largest of them, at which
an inference net is taken for the same function. What is usual is a tenth of it."""

_DTYPES = {"32-true": torch.float32, "bf16-true": torch.bfloat16}
_log = logging.getLogger("resnet_hub")


class InferenceNet(nn.Module):
    """A net in evaluation, made to answer alone: it has no parameters and cannot be trained.

    Norms are folded into convolutions, maps lie channels last, and on a CPU weights are packed, and
    convolution, addition and activation are one kernel; no compiler is needed. What is made is
    compared with the net on an image of noise; where it differs by more than :data:`TOLERANCES`, or
    torch has no such kernels, a slower way is taken, and the log says so.

    Calls may come from several threads at once. Images may have any shape that the net takes;
    weights are packed anew for each. What happens to the net later changes nothing here.

    Attributes:
        architecture: The net's.
        preprocess: The net's.
        labels: The net's.
        temperature: The net's.
        precision: Of weights and maps, by Lightning's name; logits are float32 in each.
        device: Where the net was, and images have to be.
        way: ``fused``; ``folded``: norms folded and channels last, by torch's public calls; or
            ``plain``: a copy of the net.

    Args:
        net: Any net of the package, on any device; it stays as it is.
        precision: ``32-true``, or ``bf16-true`` for a device that has instructions for it.

    Raises:
        InvalidSetting: There is no such precision.
    """

    def __init__(self, net: ResNet, precision: Precision = "32-true") -> None:
        super().__init__()
        if precision not in _DTYPES:
            raise InvalidSetting(f"precision: {precision!r} is not {' or '.join(_DTYPES)}")
        self.architecture, self.preprocess = net.architecture, net.preprocess
        self.labels, self.temperature = net.labels, net.temperature
        self.precision: Precision = precision
        self.device = net.fc.weight.device
        with torch.no_grad():
            self.way, self._run = self._chosen(net)
        super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits.

        Args:
            x: float ``(N, in_channels, H, W)``, preprocessed, on the net's device; it stays.

        Returns:
            float32 ``(N, classes)``, without a gradient.

        Raises:
            InvalidSetting: ``x`` lies on another device.
        """
        if x.device != self.device:
            raise InvalidSetting(
                f"images: on {x.device}, and this net was made for {self.device}; move them, or "
                "move the net and call its for_inference again"
            )
        with torch.no_grad():
            return self._run(x)

    def train(self, mode: bool = True) -> InferenceNet:
        """Refuse training mode.

        Raises:
            InvalidSetting: ``mode`` is true.
        """
        if mode:
            raise InvalidSetting("an inference net cannot be trained; train the net it is made of")
        return super().train(False)

    def extra_repr(self) -> str:
        """Return precision and way."""
        return f"precision={self.precision!r}, way={self.way!r}"

    def _chosen(self, net: ResNet) -> tuple[Way, Run]:
        """Return the fastest way that gives the net's logits, and what runs it."""
        still = deepcopy(net).eval() if net.training else net
        size, generator = net.preprocess.size, torch.Generator().manual_seed(0)
        noise = torch.randn(1, net.architecture.in_channels, size, size, generator=generator)
        noise = noise.to(self.device)
        expected = still(noise.to(net.fc.weight.dtype)).float()
        scale = float(expected.abs().max())
        for way, run in self._ways(net):
            try:
                found = run(noise)
            except RuntimeError as error:  # an operator that is there, but not for this CPU
                _tell(way, f"torch refuses it ({str(error).partition(chr(10))[0]})")
                continue
            difference = float((found - expected).abs().max())
            if difference <= TOLERANCES[self.precision] * scale:
                return way, run
            _tell(way, f"logits of up to {scale:.3g} differ by {difference:.3g}")
        copy = deepcopy(net).eval().requires_grad_(False).to(_DTYPES[self.precision])
        return "plain", partial(_run_plain, copy)

    def _ways(self, net: ResNet) -> Iterator[tuple[Way, Run]]:
        """Yield ways that there are, the fastest first."""
        try:
            body = Body(net, _DTYPES[self.precision])
        except CannotFold:
            _tell("folded", "a layer is none of the architecture's")
            return
        if self.device.type == "cpu":
            if kernels.has_fused():
                yield "fused", Fused(body)
            else:
                _tell("fused", "this torch or CPU lacks oneDNN's kernels for it")
        yield "folded", partial(_run_folded, body)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> InferenceNet:
        # Weights are packed for one device and precision; moving nowhere is no mistake.
        here = torch.empty(0, device=self.device)
        there = fn(here)
        if (here.device, here.dtype) != (there.device, there.dtype):
            raise InvalidSetting(
                "an inference net stays as it was made; move the net it is made of, and call its "
                "for_inference again"
            )
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        raise InvalidSetting("an inference net is not saved; save the net it is made of")


def _tell(way: Way, why: str) -> None:
    _log.warning("for_inference: not %s, which is slower: %s", way, why)


def _run_folded(body: Body, images: Tensor) -> Tensor:
    return body(images, kernels.Dense())


def _run_plain(net: ResNet, images: Tensor) -> Tensor:
    logits: Tensor = net(images.to(net.fc.weight.dtype))
    return logits.float()

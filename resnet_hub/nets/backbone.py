"""A net as a detector's or segmenter's backbone: maps by name, fixed norms, dilated stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from resnet_hub.errors import InvalidSetting
from resnet_hub.nets.blocks import Block
from resnet_hub.nets.pooling import Pool
from resnet_hub.nets.shortcuts import PadShortcut

if TYPE_CHECKING:
    from resnet_hub.nets.resnet import ResNet


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm whose statistics, scale and shift are fixed numbers, in training too.

    A detector's batches are too small to estimate them. Names and arithmetic are those of
    torchvision's module of this name, and state dicts go from one to the other.

    Args:
        norm: What it stands for; its numbers are copied.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, getattr(norm, name).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(N, C, H, W)`` by the fixed numbers."""
        weight, bias, mean, variance = (
            numbers.reshape(1, -1, 1, 1)
            for numbers in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = weight * (variance + self.eps).rsqrt()
        return x * scale + (bias - mean * scale)

    def extra_repr(self) -> str:
        """Return the number of channels and epsilon."""
        return f"{len(self.weight)}, eps={self.eps}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # a BatchNorm's, which counts nothing
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Backbone(nn.Module):
    """The stages of a net, whose outputs detectors and segmenters build on.

    A copy: the net stays as it is. Tensor names are the net's, without the classifier. The children
    run one after the other, so torchvision's ``IntermediateLayerGetter`` takes it as it takes
    torchvision's own nets, and a detector is ::

        body = net.backbone()
        fpn = BackboneWithFPN(body, body.return_layers, list(body.channels.values()), 256)
        detector = FasterRCNN(fpn, num_classes=91)

    Units are never left out (stochastic depth) nor recomputed.

    Attributes:
        channels: Of each map, by name: ``{"C2": 256, ..., "C5": 2048}`` for ResNet-50.
        strides: Image pixels for a step in each map, by name: 4, 8, 16, 32 for an ImageNet stem.
        return_layers: The child that each map comes from, with the name that torchvision's
            detectors know it by: ``{"layer1": "0", ..., "layer4": "3"}``.

    Args:
        net: The net, with its weights.
        trainable_layers: Stages, from the last, that are trained; one more than there are stages
            trains the stem too. The rest is frozen (``requires_grad`` off).
        freeze_norms: Put :class:`FrozenBatchNorm2d` in place of every BatchNorm.
        replace_stride_with_dilation: For each stage after the first, whether its stride is replaced
            by dilation: its map is twice as fine, with the same numbers at every second place
            (1606.00915 §3.1). The tensors stay the same. Poolings in the units are dilated too
            (timm leaves them dense); channel attention sees the finer map, so its numbers move.

    Raises:
        InvalidSetting: Numbers of layers or stages that the net does not have.
    """

    def __init__(
        self,
        net: ResNet,
        *,
        trainable_layers: int = 3,
        freeze_norms: bool = True,
        replace_stride_with_dilation: Sequence[bool] | None = None,
    ) -> None:
        super().__init__()
        stages = net.stages
        dilated = replace_stride_with_dilation or (False,) * (len(stages) - 1)
        if len(dilated) != len(stages) - 1 or not all(isinstance(x, bool) for x in dilated):
            raise InvalidSetting(
                f"replace_stride_with_dilation: {replace_stride_with_dilation!r} is not one of "
                f"True and False for each of the {len(stages) - 1} stages after the first"
            )
        whole = isinstance(trainable_layers, int) and not isinstance(trainable_layers, bool)
        if not whole or trainable_layers not in range(len(stages) + 2):
            raise InvalidSetting(
                f"trainable_layers: {trainable_layers!r} is not 0 to {len(stages) + 1}, "
                "the net's stages and its stem"
            )
        for name, child in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, deepcopy(child))
                if name in ("bn1", "norm"):
                    self.add_module("relu" if name == "bn1" else "norm_relu", nn.ReLU(inplace=True))
        if net.architecture.form == "relu_only_preact":
            self.add_module("last_relu", nn.ReLU(inplace=True))
        self.train(net.training)
        names = [f"layer{i + 1}" for i in range(len(stages))]
        widths = [net.architecture.width << i for i in range(len(stages))]
        self.channels = {
            f"C{i}": width * net.architecture.expansion for i, width in enumerate(widths, 2)
        }
        ends = [*names[:-1], list(self._modules)[-1]]  # a stage, or what comes after the last one
        self.return_layers = {name: str(i) for i, name in enumerate(ends)}
        self._maps = dict(zip(ends, self.channels, strict=True))

        _dilate([getattr(self, name) for name in names], (False, *dilated))
        first = 1 if net.architecture.stem == "cifar" else 4
        self.strides, step = {}, first
        for name, keeps in zip(self.channels, (True, *dilated), strict=True):
            step = step if keeps else 2 * step
            self.strides[name] = step

        if freeze_norms:
            _freeze_norms(self)
        trained = ["norm", *names[::-1], "conv1"][: trainable_layers + 1]
        if trainable_layers > len(stages):
            trained += ["bn1", "maxpool"]
        for name, child in self.named_children():
            child.requires_grad_(name in trained and trainable_layers > 0)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the stages' outputs, the finest first.

        Args:
            x: float ``(N, in_channels, H, W)``, preprocessed.

        Returns:
            An ``OrderedDict`` of maps ``(N, C, H/stride, W/stride)``: ``C2`` to ``C5`` (``C4`` of a
            net of three stages); a pre-activation net's last is taken after its last activation.
        """
        maps: OrderedDict[str, Tensor] = OrderedDict()
        for name, child in self.named_children():
            x = child(x)
            if name in self._maps:
                maps[self._maps[name]] = x
        return maps


def _dilate(stages: Sequence[nn.Sequential], replaced: Sequence[bool]) -> None:
    """Replace strides by dilation: whatever comes after one reads every second place, and so on."""
    dilation = 1
    for stage, replace in zip(stages, replaced, strict=True):
        for block in stage:
            unit = cast(Block, block)
            _dilate_shortcut(unit.downsample, dilation, replace)
            _dilate_shortcut(unit.gate, dilation, replace)
            for layer in _branch(unit):
                stride = _set_dilation(layer, dilation)
                if replace and stride > 1:
                    dilation *= stride
                    _keep_size(layer)


def _dilate_shortcut(shortcut: nn.Module | None, dilation: int, replace: bool) -> None:
    if isinstance(shortcut, nn.Sequential):
        shortcut = shortcut[0]  # a 1×1 convolution, which no dilation changes, or a pooling
    if isinstance(shortcut, Pool):
        shortcut.dilation = dilation
    if replace and isinstance(shortcut, Pool | PadShortcut | nn.Conv2d):
        _keep_size(shortcut)


def _branch(block: Block) -> Iterator[nn.Conv2d | Pool]:
    """Yield what may stride in a unit's residual branch, in order."""
    for child in block.children():
        if isinstance(child, nn.Conv2d | Pool) and child is not block.gate:
            yield child


def _set_dilation(layer: nn.Conv2d | Pool, dilation: int) -> int:
    """Return the layer's stride as well."""
    if isinstance(layer, Pool):
        layer.dilation = dilation
        return layer.stride
    layer.dilation = (dilation, dilation)
    layer.padding = tuple(dilation * (side // 2) for side in layer.kernel_size)
    return layer.stride[0]


def _keep_size(layer: nn.Conv2d | Pool | PadShortcut) -> None:
    if isinstance(layer, nn.Conv2d):
        layer.stride = (1, 1)
    else:
        layer.stride = 1


def _freeze_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child))
        else:
            _freeze_norms(child)

"""CIFAR's residual net once more, straight from the paper's equations and a file's own tensors.

What a conversion is compared with where no library builds the net. It shares no code with the nets.
"""

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F


def cifar_logits(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Return the logits of a net of 1512.03385 §4.2, ``y = relu(F(x) + x)``.

    Its shortcuts have no parameters (option A of §3.3): every second place of a map, half of the
    new zero channels before the old ones and half after.

    Args:
        tensors: A checkpoint as akamaster/pytorch_resnet_cifar10 names its tensors: ``conv1``,
            ``bn1``, ``layer1.0.conv1``, ..., ``linear``.
        x: float32 ``(N, in_channels, H, W)``, preprocessed.

    Raises:
        KeyError: A tensor is missing.
    """
    x = _norm(tensors, "bn1", _convolution(tensors, "conv1", x, 1)).relu()
    for stage in (1, 2, 3):
        unit = 0
        while (name := f"layer{stage}.{unit}") + ".conv1.weight" in tensors:
            stride = 2 if stage > 1 and unit == 0 else 1
            y = _norm(tensors, f"{name}.bn1", _convolution(tensors, f"{name}.conv1", x, stride))
            y = _norm(tensors, f"{name}.bn2", _convolution(tensors, f"{name}.conv2", y.relu(), 1))
            half = (y.shape[1] - x.shape[1]) // 2
            x = (y + F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, half, half))).relu()
            unit += 1
    return F.linear(x.mean((2, 3)), tensors["linear.weight"], tensors["linear.bias"])


def _convolution(tensors: Mapping[str, Tensor], name: str, x: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, tensors[f"{name}.weight"], stride=stride, padding=1)


def _norm(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    parts = ("running_mean", "running_var", "weight", "bias")
    mean, variance, weight, bias = (tensors[f"{name}.{part}"].view(-1, 1, 1) for part in parts)
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

"""The nets once more, straight from the papers' equations, and weights that leave nothing unused.

Nothing here knows the package: a state dict by torchvision's names goes in, logits come out.
"""

import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]
Join = Callable[[str, int, Tensor, Tensor, Tensor], Tensor]
"""Puts together, of a unit's name and stride, F, the shortcut, and what F was given."""


def fill(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every tensor, BatchNorm's statistics too, values of its own; put in evaluation mode.

    A net on the meta device is brought to the CPU first.
    """
    if any(parameter.is_meta for parameter in net.parameters()):
        net = net.to_empty(device="cpu")
    noise = torch.randn(1 << 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            start = zlib.crc32(name.encode()) % len(noise)
            values = noise.roll(-start)
            if name.endswith("num_batches_tracked"):
                values = torch.zeros(1)
            elif tensor.dim() > 1:
                values = values * (2 / (tensor.numel() / len(tensor))) ** 0.5
            elif name.endswith("running_var"):
                values = 0.5 + 0.5 * values.abs()
            elif name.endswith("weight"):
                values = 1 + 0.3 * values.clamp(-1.5, 1.5)
            else:
                values = 0.1 * values
            for part in tensor.view(-1).split(len(noise)):
                part.copy_(values[: len(part)])
    return net.eval()


def add(name: str, stride: int, y: Tensor, past: Tensor, seen: Tensor) -> Tensor:
    """1603.05027 Fig. 2(a): F and the shortcut as they are."""
    return y + past


def weighed(state: State, *, gate: str = "none", on_shortcut: float = 1, on_f: float = 1) -> Join:
    """1603.05027 Fig. 2(b) to (d): constants; g = sigmoid(W x + b) on F, 1 - g on the shortcut."""

    def join(name: str, stride: int, y: Tensor, past: Tensor, seen: Tensor) -> Tensor:
        y, past = on_f * y, on_shortcut * past
        if gate != "none":
            z = conv(state, f"{name}.gate", seen, stride)
            g = 1 / (1 + (-z - state[f"{name}.gate.bias"].view(-1, 1, 1)).exp())
            y, past = g * y if gate == "exclusive" else y, (1 - g) * past
        return y + past

    return join


def residual_logits(
    state: State,
    x: Tensor,
    *,
    depths: tuple[int, ...],
    stem: str,
    shortcut: str | None,
    zeros: str = "split",
    stride_in: str = "3x3",
    groups: int = 1,
    join: Join = add,
) -> Tensor:
    """1512.03385: y = relu(F(x) + shortcut(x)); ``shortcut`` None is the plain net, y = relu(F)."""
    x = relu(norm(state, "bn1", conv(state, "conv1", x, 2 if stem == "imagenet" else 1)))
    if stem == "imagenet":
        x = F.max_pool2d(x, 3, 2, 1)
    for name, stride in units(depths):
        first, second = strides(state, name, stride, stride_in)
        y = relu(norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", x, first)))
        y = norm(state, f"{name}.bn2", conv(state, f"{name}.conv2", y, second, groups))
        if f"{name}.conv3.weight" in state:
            y = norm(state, f"{name}.bn3", conv(state, f"{name}.conv3", relu(y)))
        if shortcut is None:
            x = relu(y)
        else:
            x = relu(join(name, stride, y, past_unit(state, name, x, x, stride, y, zeros), x))
    return classified(state, x)


def reordered_logits(
    state: State,
    x: Tensor,
    *,
    form: str,
    depths: tuple[int, ...],
    stem: str,
    stride_in: str = "3x3",
    zeros: str = "split",
    join: Join = add,
) -> Tensor:
    """1603.05027 Fig. 4 (b) to (d), box by box; BN's last box is ``bn2``, or ``bn3`` of three.

    (b) weight BN ReLU weight + BN ReLU; (c) weight BN ReLU weight BN ReLU +; (d) ReLU weight BN
    ReLU weight BN +. Its appendix, of (d): the first ReLU comes before the first split, and one
    more follows the last addition.
    """
    x = relu(norm(state, "bn1", conv(state, "conv1", x, 2 if stem == "imagenet" else 1)))
    if stem == "imagenet":
        x = F.max_pool2d(x, 3, 2, 1)
    for number, (name, stride) in enumerate(units(depths)):
        first, second = strides(state, name, stride, stride_in)
        seen = relu(x) if form == "relu_only_preact" and number > 0 else x
        y = relu(norm(state, f"{name}.bn1", conv(state, f"{name}.conv1", seen, first)))
        y, last = conv(state, f"{name}.conv2", y, second), "bn2"
        if f"{name}.conv3.weight" in state:
            y, last = conv(state, f"{name}.conv3", relu(norm(state, f"{name}.bn2", y))), "bn3"
        past = past_unit(state, name, x, seen, stride, y, zeros)
        if form == "bn_after_addition":
            x = relu(norm(state, f"{name}.{last}", join(name, stride, y, past, seen)))
        elif form == "relu_before_addition":
            x = join(name, stride, relu(norm(state, f"{name}.{last}", y)), past, seen)
        else:
            x = join(name, stride, norm(state, f"{name}.{last}", y), past, seen)
    return classified(state, relu(x) if form == "relu_only_preact" else x)


def preact_logits(
    state: State,
    x: Tensor,
    *,
    depths: tuple[int, ...],
    stem: str,
    stride_in: str = "3x3",
    zeros: str = "split",
    join: Join = add,
) -> Tensor:
    """1603.05027 Eq. 9: x' = x + F(relu(bn(x))), F's layers each activated before their weights.

    Its appendix: the first unit's activation comes right after the first convolution, before the
    split in two paths; one more follows the last addition. A projection takes the activated tensor.
    """
    x = relu(norm(state, "bn1", conv(state, "conv1", x, 2 if stem == "imagenet" else 1)))
    if stem == "imagenet":
        x = F.max_pool2d(x, 3, 2, 1)
    for number, (name, stride) in enumerate(units(depths)):
        first, second = strides(state, name, stride, stride_in)
        a = x if number == 0 else relu(norm(state, f"{name}.bn1", x))
        y = conv(state, f"{name}.conv1", a, first)
        y = conv(state, f"{name}.conv2", relu(norm(state, f"{name}.bn2", y)), second)
        if f"{name}.conv3.weight" in state:
            y = conv(state, f"{name}.conv3", relu(norm(state, f"{name}.bn3", y)))
        x = join(name, stride, y, past_unit(state, name, x, a, stride, y, zeros), a)
    return classified(state, relu(norm(state, "norm", x)))


def past_unit(
    state: State, name: str, x: Tensor, seen: Tensor, stride: int, y: Tensor, zeros: str
) -> Tensor:
    """The shortcut: a projection of what F sees, normalised where the net has that; else zeros."""
    if f"{name}.downsample.0.weight" not in state:
        return padded(x, y.shape[1], stride, zeros)
    projected = conv(state, f"{name}.downsample.0", seen, stride)
    if f"{name}.downsample.1.weight" in state:
        projected = norm(state, f"{name}.downsample.1", projected)
    return projected


def units(depths: tuple[int, ...]) -> list[tuple[str, int]]:
    """Every unit's name and stride: each stage but the first halves the map in its first unit."""
    return [
        (f"layer{stage + 1}.{index}", 2 if stage and not index else 1)
        for stage, depth in enumerate(depths)
        for index in range(depth)
    ]


def strides(state: State, name: str, stride: int, stride_in: str) -> tuple[int, int]:
    """Strides of a unit's first two convolutions."""
    in_first = stride_in == "1x1" or f"{name}.conv3.weight" not in state
    return (stride, 1) if in_first else (1, stride)


def padded(x: Tensor, channels: int, stride: int, zeros: str) -> Tensor:
    """Option A, and the identity where nothing changes."""
    n, c, _, _ = x.shape
    kept = x[:, :, ::stride, ::stride]
    before = (channels - c) // 2 if zeros == "split" else 0
    height, width = kept.shape[2:]
    lead = x.new_zeros(n, before, height, width)
    trail = x.new_zeros(n, channels - c - before, height, width)
    return torch.cat([lead, kept, trail], 1)


def conv(state: State, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution that keeps the size at stride 1."""
    weight = state[f"{name}.weight"]
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)


def norm(state: State, name: str, x: Tensor) -> Tensor:
    """BatchNorm in evaluation (1502.03167 Alg. 2), epsilon 1e-5."""
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(-1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return x.clamp(min=0)


def classified(state: State, x: Tensor) -> Tensor:
    """Global average and the classifier."""
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def akamaster(net: nn.Module) -> State:
    """A net's tensors as checkpoints of akamaster/pytorch_resnet_cifar10 name them."""
    return {
        f"module.{name.replace('fc.', 'linear.')}": tensor
        for name, tensor in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }

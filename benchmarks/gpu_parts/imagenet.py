"""ResNet-50: training and inference beside bare loops, torchvision and timm."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn
from turns import Row

from gpu_parts.cards import card, work
from gpu_parts.timing import Clock, Found, Scale, alternate, ratio
from gpu_parts.training import Loop, Noise, Ours, the_same
from resnet_hub.data.settings import DataSettings
from resnet_hub.nets.resnet import ResNet

CLASSES = 1000


def peers(name: str, found: Found) -> dict[str, Callable[[], nn.Module]]:
    """Return what builds the same net elsewhere, by who; who is not installed is said."""
    makers: dict[str, Callable[[], nn.Module]] = {}
    for who, module, function in (
        ("torchvision", "torchvision.models", None),
        ("timm", "timm", "create_model"),
    ):
        if find_spec(who) is None:
            found.said.append(f"{who} is not installed; left out")
        elif function is None:
            makers[who] = getattr(import_module(module), name)
        else:
            makers[who] = partial(getattr(import_module(module), function), name)
    return makers


def train(scale: Scale, device: torch.device) -> Found:
    """Compare training steps: ours, and bare loops over nets of ours, torchvision and timm."""
    found, clock = Found(), Clock(device)
    batches = the_same(scale.batch, scale.side, CLASSES, device)
    runners: dict[str, Ours | Loop] = {
        "ours": _ours(scale, clock),
        "bare": Loop(ResNet(scale.net), batches, clock),
    }
    for who, make in peers(scale.net, found).items():
        runners[who] = Loop(make(), batches, clock)
    medians = alternate(_turns(runners, scale), scale.turns, found)
    what = f"{scale.net} training, bf16, batch {scale.batch}"
    found.rows += ratio(f"{what}: over a bare loop of the same net", medians, "ours", "bare", 0.97)
    for who in ("torchvision", "timm"):
        found.rows += ratio(f"{what}: over a bare loop of {who}'s", medians, "ours", who, 1.0)
    if "ours" in medians:
        pace = found.figures["train"] = scale.batch / medians["ours"]
        found.rows.append(Row(what, pace, unit="images/s"))
        _limits(what, scale, pace, device, found, train=True)
    return found


def train_compiled(scale: Scale, device: torch.device) -> Found:
    """Compare our training step compiled with a bare loop that is not."""
    found, clock = Found(), Clock(device)
    batches = the_same(scale.batch, scale.side, CLASSES, device)
    ours = _ours(scale, clock, compiled=True)
    runners = {"ours": ours, "bare": Loop(ResNet(scale.net), batches, clock)}
    medians = alternate(_turns(runners, scale), scale.turns, found)
    if not ours.compiled:
        found.said.append("there is no compiler here, so it ran as it is")
    what = f"{scale.net} training, compiled: over a bare loop, not compiled"
    found.rows += ratio(what, medians, "ours", "bare")
    return found


def infer(scale: Scale, device: torch.device) -> Found:
    """Compare inference: ours compiled with CUDA graphs, ours as it is, torchvision's and timm's.

    All in bfloat16, channels last. The compiled net's answers are held against float32's.
    """
    found, clock = Found(), Clock(device)
    torch.manual_seed(0)
    reference = ResNet(scale.net).eval().to(device)
    nets: dict[str, nn.Module] = {"eager": _ready(ResNet(scale.net), device)}
    nets["eager"].load_state_dict(reference.state_dict())
    nets["compiled"] = _ready(ResNet(scale.net), device)
    nets["compiled"].load_state_dict(reference.state_dict())
    # Without a compiler this candidate fails, which is said, and the others go on.
    nets["compiled"].compile(mode="reduce-overhead")
    for who, make in peers(scale.net, found).items():
        nets[who] = _ready(make(), device)
    for batch, goal in ((scale.infer, 1.6), (1, None)):
        images = torch.randn(batch, 3, scale.side, scale.side, device=device)
        ready = images.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)

        def turn(net: nn.Module, ready: torch.Tensor = ready) -> float:
            with torch.inference_mode():
                for _ in range(scale.warm):
                    net(ready)
                return clock.seconds(partial(net, ready), scale.steps)

        medians = alternate({n: partial(turn, net) for n, net in nets.items()}, scale.turns, found)
        what = f"{scale.net} inference, bf16, batch {batch}"
        found.rows += ratio(f"{what}, compiled: over itself", medians, "compiled", "eager", goal)
        for who in ("torchvision", "timm"):
            found.rows += ratio(f"{what}, compiled: over {who}'s", medians, "compiled", who)
        if "compiled" not in medians:
            nets.pop("compiled", None)
            continue
        if batch == scale.infer:
            _limits(what, scale, batch / medians["compiled"], device, found, train=False)
            _deviation(what, reference, nets["compiled"], images, found)
    return found


def _deviation(
    what: str, reference: nn.Module, net: nn.Module, images: torch.Tensor, found: Found
) -> None:
    ready = images.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        exact, ours = reference(images), net(ready).float()
    apart = float((ours - exact).abs().max() / exact.abs().max())
    found.rows.append(
        Row(f"{what}, compiled: logits off float32's", apart, None, "lower", "of the largest", "")
    )


def _ours(scale: Scale, clock: Clock, *, compiled: bool = False) -> Ours:
    settings = DataSettings(batch_size=scale.batch)
    data = Noise(settings, side=scale.side, classes=CLASSES, count=scale.images)
    return Ours(ResNet(scale.net), data, clock, compile_as=compiled)


def _ready(net: nn.Module, device: torch.device) -> nn.Module:
    return net.eval().to(device, torch.bfloat16).to(memory_format=torch.channels_last)


def _turns(runners: Mapping[str, Ours | Loop], scale: Scale) -> dict[str, Callable[[], float]]:
    return {n: partial(one.seconds, scale.steps, scale.warm) for n, one in runners.items()}


def _limits(
    what: str, scale: Scale, pace: float, device: torch.device, found: Found, *, train: bool
) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    limits = card(name)
    if limits is None:
        found.said.append(f"{name}: its limits are not known here, so no share of them is told")
        return
    flops, traffic = work(scale.net, scale.side, train=train).share(pace, limits)
    note = f"of its bf16 operations {flops:.0%}, of its bandwidth {traffic:.0%} at least"
    found.rows.append(Row(f"{what}: of the card's limit", max(flops, traffic), note=note, unit=""))

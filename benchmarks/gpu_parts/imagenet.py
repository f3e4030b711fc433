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
    found = Found()
    nets = _ours_ready(scale, device, mode="reduce-overhead")
    for who, make in peers(scale.net, found).items():
        nets[who] = _ready(make(), device)
    for batch, goal in ((scale.infer, 1.6), (1, None)):
        what = f"{scale.net} inference, bf16, batch {batch}, compiled"
        medians = _answered(nets, batch, scale, device, found)
        found.rows += ratio(f"{what}: over itself", medians, "compiled", "eager", goal)
        for who in ("torchvision", "timm"):
            found.rows += ratio(f"{what}: over {who}'s", medians, "compiled", who)
        if "compiled" not in medians:
            break
        if batch == scale.infer:
            _limits(what, scale, batch / medians["compiled"], device, found, train=False)
            _deviation(what, nets, scale, device, found)
    return found


def infer_autotuned(scale: Scale, device: torch.device) -> Found:
    """Compare ours as it is and with kernels that were tried out first, which takes minutes."""
    found = Found()
    nets = _ours_ready(scale, device, mode="max-autotune")
    medians = _answered(nets, scale.infer, scale, device, found)
    what = f"{scale.net} inference, bf16, batch {scale.infer}, max-autotune"
    found.rows += ratio(f"{what}: over itself", medians, "compiled", "eager", 1.6)
    if "compiled" in medians:
        _limits(what, scale, scale.infer / medians["compiled"], device, found, train=False)
        _deviation(what, nets, scale, device, found)
    return found


def _ours_ready(scale: Scale, device: torch.device, *, mode: str) -> dict[str, nn.Module]:
    """Return one net as float32 has it, as it is and compiled; the last where a compiler works.

    Without a compiler the candidate fails at its first call, which is said.
    """
    torch.manual_seed(0)
    reference = ResNet(scale.net).eval().to(device)
    nets: dict[str, nn.Module] = {"float32": reference}
    for name in ("eager", "compiled"):
        nets[name] = _ready(ResNet(scale.net), device)
        nets[name].load_state_dict(reference.state_dict())
    nets["compiled"].compile(mode=mode)
    return nets


def _images(batch: int, scale: Scale, device: torch.device) -> torch.Tensor:
    images = torch.randn(batch, 3, scale.side, scale.side, device=device, dtype=torch.bfloat16)
    return images.contiguous(memory_format=torch.channels_last)


def _answered(
    nets: Mapping[str, nn.Module], batch: int, scale: Scale, device: torch.device, found: Found
) -> dict[str, float]:
    images, clock = _images(batch, scale, device), Clock(device)

    @torch.inference_mode()
    def turn(net: nn.Module) -> float:
        for _ in range(scale.warm):
            net(images)
        return clock.seconds(partial(net, images), scale.steps)

    turns = {name: partial(turn, net) for name, net in nets.items() if name != "float32"}
    return alternate(turns, scale.turns, found)


@torch.inference_mode()
def _deviation(
    what: str, nets: Mapping[str, nn.Module], scale: Scale, device: torch.device, found: Found
) -> None:
    images = _images(scale.infer, scale, device)
    exact, ours = nets["float32"](images.float()), nets["compiled"](images).float()
    apart = float((ours - exact).abs().max() / exact.abs().max())
    note = "of the largest of them"
    found.rows.append(Row(f"{what}: logits off float32's", apart, None, "lower", note, ""))


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

"""Logits on a CPU at 224 pixels: for_inference against torchvision's and timm's nets as they are.

CPU time of a batch, one thread; all hold the same first weights, and images are noise, on neither
of which the time depends. Deviations are the largest difference from torchvision's logits over the
largest logit. Rows of bfloat16 are there only where the CPU has instructions for it.
"""

from collections.abc import Callable
from pathlib import Path

import turns
from turns import Figures, Row

NETS = ("resnet18", "resnet50")
BATCHES = (1, 16)
GOALS = {"32-true": (1.7, 2.1, 1e-5), "bf16-true": (2.8, 4.5, None)}
"""Of a batch of 1, of 16, and of the deviation."""


def has_bf16() -> bool:
    """Return whether the CPU multiplies bfloat16."""
    try:
        told = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(told.split())


def prepare(folder: Path) -> None:
    """Write each net's weights, images, and torchvision's logits of them."""
    import torch
    import torchvision

    torch.manual_seed(0)
    for name in NETS:
        net = torchvision.models.get_model(name).eval()
        images = torch.randn(2, 3, 224, 224)
        with torch.inference_mode():
            content = {"weights": net.state_dict(), "images": images, "logits": net(images)}
        torch.save(content, folder / name)


def torchvisions() -> Figures:
    """Measure torchvision's nets."""
    import torchvision

    return measured(lambda name: torchvision.models.get_model(name))


def timms() -> Figures:
    """Measure timm's nets."""
    import timm

    return measured(timm.create_model)


def ours(precision: str) -> Callable[[], Figures]:
    """Return what measures our nets at a precision."""

    def measure() -> Figures:
        from resnet_hub import ResNet

        return measured(ResNet, lambda net: net.for_inference(precision=precision))

    return measure


def measured(build: Callable, made: Callable | None = None) -> Figures:
    """Return seconds of each net and batch, of making it, and its deviation."""
    import torch

    figures = {}
    for name in NETS:
        kept = torch.load(turns.folder() / name)
        net = build(name)
        net.load_state_dict(kept["weights"])
        net.eval()
        if made is not None:
            first = []
            figures[f"{name} build"] = turns.cpu_seconds(
                lambda net=net, first=first: first.append(made(net)), repeats=1, warm=0
            )
            net = first[0]
        with torch.inference_mode():
            for size in BATCHES:
                images = torch.randn(size, 3, 224, 224)
                figures[f"{name} {size}"] = turns.cpu_seconds(
                    lambda net=net, images=images: net(images), repeats=24 // size + 2, warm=2
                )
            deviation = (net(kept["images"]) - kept["logits"]).abs().max()
            figures[f"{name} deviation"] = float(deviation / kept["logits"].abs().max())
    return figures


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return how many times faster than torchvision we are, and what that costs."""
    table = []
    theirs = found["torchvision"]
    for name in NETS:
        for size in BATCHES:
            key = f"{name} {size}"
            ratio = theirs[key] / found["timm"][key]
            table.append(Row(f"{name}, batch of {size}, timm over torchvision", ratio))
    for precision, (*goals, most) in GOALS.items():
        if precision not in found:
            continue
        own = found[precision]
        for name in NETS:
            for size, goal in zip(BATCHES, goals, strict=True):
                key = f"{name} {size}"
                note = f"{own[key] / size * 1e3:.1f} of {theirs[key] / size * 1e3:.1f} ms an image"
                what = f"{name}, batch of {size}, {precision} over torchvision"
                table.append(Row(what, theirs[key] / own[key], goal, "higher", note))
            what = f"{name}, {precision}: "
            table += [
                Row(f"{what}deviation", own[f"{name} deviation"], most, "lower", unit=""),
                Row(f"{what}time to build", own[f"{name} build"], 1, "lower", unit="s"),
            ]
    return table


CANDIDATES = {"torchvision": torchvisions, "timm": timms, "32-true": ours("32-true")}
if has_bf16():
    CANDIDATES["bf16-true"] = ours("bf16-true")

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3, prepare=prepare)

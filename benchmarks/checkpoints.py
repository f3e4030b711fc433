"""What writing a checkpoint costs a training: its time as a share of an epoch's.

A write is followed by the reading that verifies it, as in a run. Both it and a step are told by the
wall clock, as both wait for something; steps are bfloat16, channels last, on two threads at most.
"""

import os

import turns
from turns import Candidate, Figures, Row

CASES = {
    # net: batch, image's side, classes, steps of an epoch in its recipe
    "cifar_resnet20": (128, 32, 10, 351),
    "resnet50": (8, 224, 1000, 1_281_167 // 8),
}


def measured(name: str) -> Figures:
    """Return the seconds of a step and of a write, verified."""
    import torch
    from torch.nn import functional as F

    from resnet_hub import ResNet
    from resnet_hub.learning.saving.checkpoints import verify, write_checkpoint

    torch.set_num_threads(min(2, os.cpu_count() or 1))
    batch, side, classes, _ = CASES[name]
    net = ResNet(name, classes=classes).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, 3, side, side).to(memory_format=torch.channels_last)
    labels = torch.randint(classes, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()

    def write() -> None:
        folder = turns.folder() / name
        content = {
            "state_dict": net.state_dict(),
            "optimizer_states": [optimizer.state_dict()],
            "global_step": 1,
        }
        write_checkpoint(folder, content)
        verify(folder)

    return {
        "step": turns.wall_seconds(step, repeats=3),
        "write": turns.wall_seconds(write, repeats=3),
    }


def case(name: str) -> Candidate:
    """Return what measures a net."""
    return lambda: measured(name)


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return each net's share, percent."""
    table = []
    for name, figures in found.items():
        batch, _, _, steps = CASES[name]
        share = 100 * figures["write"] / (steps * figures["step"])
        note = (
            f"{figures['write']:.3f} s, {steps:,} steps of {batch} images, {figures['step']:.3f} s"
        )
        what = f"a checkpoint's share of an epoch, {name}"
        table.append(Row(what, share, None, "lower", note, "%"))
    return table


CANDIDATES = {name: case(name) for name in CASES}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3)

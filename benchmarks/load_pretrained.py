"""A cached ResNet-152 loaded by from_pretrained, against torchvision's net built and a pickle read.

CPU time of the first load of a process and of those after it (warm), and the memory that a load
adds at its peak, every weight read, over the file's size. Our loads hash the file; what that costs
is a candidate of its own.
"""

import resource
from collections.abc import Callable
from pathlib import Path

import turns
from turns import Figures, Row


def prepare(folder: Path) -> None:
    """Write the same weights as a model folder and as a pickle."""
    import torch

    from resnet_hub import ResNet

    net = ResNet("resnet152")
    net.save_pretrained(folder / "model")
    torch.save(net.state_dict(), folder / "resnet152.pth")


def ours() -> Figures:
    """Load by ``from_pretrained``."""
    from resnet_hub import ResNet

    return measured(lambda: ResNet.from_pretrained(turns.folder() / "model"))


def torchvisions() -> Figures:
    """Load as torchvision does: build, read a pickle, copy."""
    import torch
    import torchvision

    def load() -> torch.nn.Module:
        net = torchvision.models.resnet152()
        net.load_state_dict(torch.load(turns.folder() / "resnet152.pth", weights_only=True))
        return net.eval()

    return measured(load)


def hashing() -> Figures:
    """Hash the file, and no more."""
    from resnet_hub.weights.store import sha256_of

    return measured(lambda: sha256_of(turns.folder() / "model" / "model.safetensors"))


def measured(load: Callable[[], object]) -> Figures:
    """Return the CPU seconds of the first load and of a later one, and the peak of its memory."""
    before = resident()
    first = turns.cpu_seconds(load, repeats=1, warm=0)
    net = load()
    if hasattr(net, "state_dict"):  # what is mapped is read
        sum(float(tensor.sum()) for tensor in net.state_dict().values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    del net
    warm = turns.cpu_seconds(load, repeats=3, warm=0)
    size = (turns.folder() / "model" / "model.safetensors").stat().st_size
    return {"first": first, "warm": warm, "peak": peak / size}


def resident() -> int:
    """Return the bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return our loads as parts of torchvision's."""
    ours, theirs, hashed = (found[name] for name in CANDIDATES)
    table = []
    for key, goal in (("first", 0.35), ("warm", 0.12)):
        bare = (ours[key] - hashed[key]) / theirs[key]
        note = f"{ours[key]:.3f} of {theirs[key]:.3f} s; {bare:.3f} without hashing"
        what = f"from_pretrained, ResNet-152, {key} load"
        table.append(Row(what, ours[key] / theirs[key], goal, "lower", note))
    table.append(Row("its peak of memory over the file", ours["peak"], 1.1, "lower"))
    return table


CANDIDATES = {"resnet_hub": ours, "torchvision": torchvisions, "hashing": hashing}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, prepare=prepare)

"""A net's layers by name, from the image to the classifier."""

from torch import nn

HEAD = "head"


def layers(net: nn.Module) -> dict[str, list[nn.Module]]:
    """Return the modules of each layer: ``stem``, ``layer1.0``, ``layer1.1``, …, ``head``.

    A layer is a unit of a stage. What precedes the first stage is the stem, the classifier ``fc``
    is the head, and what lies between them and the last unit, as a pre-activation net's last norm
    does, is that unit's.

    Args:
        net: Any net whose stages are called as torchvision's are.
    """
    found: dict[str, list[nn.Module]] = {"stem": []}
    for name, child in net.named_children():
        if name.startswith("layer"):
            found |= {f"{name}.{number}": [unit] for number, unit in child.named_children()}
        elif name == "fc":
            found[HEAD] = [child]
        else:
            [*found.values()][-1].append(child)
    return found

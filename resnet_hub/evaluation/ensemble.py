"""Several nets, or passes, as one: their answers averaged (1512.03385 §4.1, Table 5)."""

from collections.abc import Sequence

import torch

from resnet_hub.errors import InvalidSetting
from resnet_hub.evaluation.collected import Logits
from resnet_hub.evaluation.views import Average, averaged


def ensemble(parts: Sequence[Logits], *, average: Average = "probabilities") -> Logits:
    """Return the average answers to the same images.

    Args:
        parts: What each net gave, one at least.
        average: See :func:`~resnet_hub.evaluation.views.averaged`.

    Returns:
        Of one part the part itself. Images a second are those of all passes in turn.

    Raises:
        InvalidSetting: They answered other images, or choose among other classes.
    """
    first = parts[0]
    for number, part in enumerate(parts[1:], 2):
        same = torch.equal(part.indices, first.indices) and torch.equal(part.labels, first.labels)
        if not same or part.values.shape != first.values.shape:
            raise InvalidSetting(
                f"ensemble: the {number}. answered {tuple(part.values.shape)} (images, classes), "
                f"the first {tuple(first.values.shape)}, or other images: all need the same"
            )
    if len(parts) == 1:
        return first
    paces = [part.images_per_s for part in parts]
    seconds = sum(1 / pace for pace in paces if pace)
    return Logits(
        averaged(torch.stack([part.values for part in parts], 1), average),
        first.labels,
        first.indices,
        1 / seconds if all(paces) else None,
        ", ".join(dict.fromkeys(part.hardware for part in parts)),
        from_cache=all(part.from_cache for part in parts),
    )

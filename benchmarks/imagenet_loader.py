"""A whole loader of ImageNet's training input with two workers, against torchvision's.

CPU time an image of the process and its workers together, from before they start until they have
ended, over passes of 96 photographs: torch's DataLoader of torchvision's ImageFolder with its
training script's transforms of PIL images, or of its v2 transforms of tensors, and ours. Theirs
gives normalised floats; ours gives bytes, that the device normalises. What the process takes to do
that itself is a row of its own.
"""

import resource
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec

import imagenet_input
import turns
from imagenet_input import BATCH, IMAGES
from turns import Figures, Row

WORKERS, PASSES = 2, 10


def ours() -> Iterable[object]:
    """Return our loader."""
    from resnet_hub.data.batches import BatchSampler
    from resnet_hub.data.loader import BatchLoader

    files = imagenet_input.our_data(train=True)
    return BatchLoader(files, BatchSampler(len(files), BATCH, seed=1), workers=WORKERS)


def torchvisions(*, tensors: bool = False) -> Iterable[object]:
    """Return torch's loader of ImageFolder."""
    from torch.utils.data import DataLoader

    data = imagenet_input.torchvisions_data(train=True, tensors=tensors)
    return DataLoader(
        data, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True, drop_last=True
    )


def measured(
    make: Callable[[], Iterable[object]], use: Callable[[object], object] = lambda batch: None
) -> Figures:
    """Return the CPU milliseconds an image of all processes."""
    import gc
    from multiprocessing import active_children

    import torch

    torch.set_num_threads(1)
    loader = make()  # with all that is to be imported
    begun = cpu_of_all()
    for _ in range(PASSES):
        for batch in loader:
            use(batch)
    del loader
    while active_children():  # which are counted once they have ended
        gc.collect()
        time.sleep(0.01)
    return {"ms": (cpu_of_all() - begun) / (PASSES * IMAGES) * 1e3}


def cpu_of_all() -> float:
    """Return the CPU seconds of this process and of those of its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(of) for of in who]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def with_simplejpeg() -> Figures:
    """Load with the extra `fast`."""
    return measured(ours)


def without_extras() -> Figures:
    """Load as without any extra."""
    import resnet_hub.data.jpegs

    resnet_hub.data.jpegs.simplejpeg = None
    return measured(ours)


def normalised() -> Figures:
    """Load by the fastest decoder that is here, and normalise each batch."""
    from resnet_hub.preprocess import Preprocess

    preprocess = Preprocess()
    return measured(ours, lambda batch: preprocess.normalise(batch.images))


def classic() -> Figures:
    """Load by ImageFolder and the classic transforms, of PIL images."""
    return measured(torchvisions)


def v2s() -> Figures:
    """Load by ImageFolder and the v2 transforms, of tensors."""
    return measured(lambda: torchvisions(tensors=True))


def rows(found: dict[str, Figures]) -> list[Row]:
    """Return how many times as long torchvision's loader takes."""
    whole = found["torchvision, PIL"]["ms"]
    return [
        Row(who, whole / found[who]["ms"], goal, note=f"{found[who]['ms']:.2f} of {whole:.2f} ms")
        for who, goal in GOALS.items()
        if who in found
    ]


CANDIDATES = {
    "torchvision, PIL": classic,
    "ours, simplejpeg": with_simplejpeg,
    "ours, no extra": without_extras,
    "ours, normalised": normalised,
    "torchvision, v2": v2s,
}
if not find_spec("simplejpeg"):
    del CANDIDATES["ours, simplejpeg"]

GOALS = {
    "ours, simplejpeg": 1.6,
    "ours, no extra": None,
    "ours, normalised": None,
    "torchvision, v2": None,
}

if __name__ == "__main__":
    turns.main(__file__, CANDIDATES, rows, turns=3, prepare=imagenet_input.prepare)

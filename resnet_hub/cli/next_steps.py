"""What to do with a fine-tuned model: commands and Python that run as they are printed."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from resnet_hub.cli.console import say, summarise
from resnet_hub.data.look import Look
from resnet_hub.learning.fit import Result
from resnet_hub.zoo import ARCHITECTURES


def next_steps(result: Result, *, look: Look, recipe: Path) -> None:
    """Print a fine-tuned run's summary, what its score is worth, and how to use its model.

    Args:
        result: The run.
        look: At the folder that it was trained on.
        recipe: What it was trained by.
    """
    summarise(result)
    for line in (*_worth(look), *_use(result, look, recipe)):
        say(line)


def _worth(look: Look) -> Iterator[str]:
    if look.tested == "val":
        yield (
            "the score is that of val, by which the best epoch was chosen: it is optimistic; "
            "pictures in test/ would give one that is not"
        )
    else:
        yield "the score is that of test, which chose nothing"
    if look.tested_twice:
        yield f"{look.tested_twice:,} of its pictures are in another split too, so it is too good"


def _use(result: Result, look: Look, recipe: Path) -> Iterator[str]:
    run, model, picture = (str(p) for p in (result.run.folder, result.run.model, look.example))
    quoted = shlex.quote
    yield "use it:"
    yield f"  resnet-hub predict {quoted(model)} {quoted(picture)}"
    yield "in Python:"
    yield "  from PIL import Image, ImageOps"
    yield "  from resnet_hub import ResNet"
    yield f"  net = ResNet.from_pretrained({model!r})"
    yield f"  image = ImageOps.exif_transpose(Image.open({picture!r}))"
    yield "  print(net.labels[net(net.preprocess(image)[None]).argmax()])"
    clone = Path(__file__).parents[2]
    if (clone / "hubconf.py").is_file() and result.card.name in ARCHITECTURES:
        name, where = result.card.name, str(clone)
        yield "by torch.hub:"
        yield "  import torch"
        yield f"  net = torch.hub.load({where!r}, {name!r}, source='local', weights={model!r})"
    yield "train again, by what you edit; or go on, should it ever be stopped:"
    yield f"  resnet-hub fit {quoted(str(recipe))}"
    yield f"  resnet-hub fit --resume {quoted(run)}"

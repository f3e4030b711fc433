"""``resnet-hub gradcam``: where in pictures a net finds what speaks for a class."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resnet_hub.cli.answers import tempered
from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import InvalidSetting, UnknownName, did_you_mean, printable
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.nets.resnet import ResNet


def gradcam_command(arguments: list[str]) -> int:
    """Run ``resnet-hub gradcam``."""
    parser = Arguments(
        "gradcam",
        "Show where in pictures a net finds what speaks for a class: Grad-CAM (1610.02391).",
        epilog="Writes OUT/<picture>-gradcam.png: the picture, and beside it the picture in grey "
        "under the heat.\nSmall pictures are enlarged. What the net's crop leaves out is dimmed.",
    )
    parser.add_argument("model", help="a model folder, or a name of weights")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture files")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--class", dest="label", metavar="NAME", help="default: the likeliest")
    parser.add_argument("--layer", help="layer1 to layer4; default: the last, the coarsest")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    chosen = parser.parse_args(arguments)
    images = [expanded(image) for image in chosen.images]
    if Path(chosen.out).suffix.lower() in (".png", ".jpg", ".jpeg", ".svg"):
        raise InvalidSetting(f"--out {chosen.out}: names a folder; a picture is called by its own")
    pictures = _targets(images, expanded(chosen.out))

    from resnet_hub.nets.resnet import ResNet

    net = ResNet.from_pretrained(chosen.model)
    label = None if chosen.label is None else _number(net, chosen.label)
    answers = []
    if not chosen.json:
        for line in tempered(net.temperature):
            print(line)
    for image, picture in zip(images, pictures, strict=True):
        answer = _explained(net, image, picture, label=label, layer=chosen.layer)
        answers.append(answer)
        if not chosen.json:
            told = printable(f"{answer['label']}  {picture}")
            print(f"{answer['probability']:6.2%}  {told}")
    if chosen.json:
        print(json.dumps(answers, allow_nan=False))
    return 0


def _explained(
    net: "ResNet", image: Path, picture: Path, *, label: int | None, layer: str | None
) -> dict[str, Any]:
    """Write one file, and return what it shows."""
    import torch

    from resnet_hub.data.images import read_image
    from resnet_hub.evaluation.gradcam import gradcam, placed
    from resnet_hub.evaluation.heat import beside, enlarged, overlay
    from resnet_hub.weights.store import write_file

    mode: Literal["L", "RGB"] = "L" if net.architecture.in_channels == 1 else "RGB"
    seen = read_image(image, mode=mode, exif="apply")  # as `predict` does
    classes = None if label is None else torch.tensor([label])
    found = gradcam(net, net.preprocess(seen)[None], classes=classes, layer=layer)
    number = int(found.classes[0])
    probability = float((found.logits / (net.temperature or 1)).softmax(1)[0, number])
    name = net.labels[number] if net.labels else str(number)
    shown = enlarged(seen)
    window = net.preprocess.window(shown.height, shown.width)
    heat = placed(found.maps[0], window, height=shown.height, width=shown.width)
    is_empty = not bool(found.maps.any())
    told = f"{probability:.2%}  {name}" + (" (nothing speaks for it)" if is_empty else "")
    sheet = beside(shown, overlay(shown, heat), titles=(image.name, told))
    write_file(picture, lambda file: sheet.save(file, format="PNG"))
    return {
        "image": str(image),
        "picture": str(picture),
        "label": name,
        "index": number,
        "probability": probability,
        "temperature": net.temperature,
        "empty": is_empty,
    }


def _targets(images: Sequence[Path], folder: Path) -> list[Path]:
    """Return where each picture's result goes: names are numbered where they would be the same.

    Raises:
        InvalidSetting: A result would take the place of a picture.
    """
    targets: list[Path] = []
    for image in images:
        number, own = 1, folder / f"{image.stem}-gradcam.png"
        while own in targets:
            number += 1
            own = folder / f"{image.stem}-{number}-gradcam.png"
        targets.append(own)
    given = {image.resolve() for image in images}
    for own in targets:
        if own.resolve() in given:
            raise InvalidSetting(f"--out {folder}: {own.name} there is one of the pictures")
    return targets


def _number(net: "ResNet", label: str) -> int:
    """Return a class's number, of its name or of the number itself.

    Raises:
        UnknownName: The net has no such class.
    """
    count = net.architecture.classes
    if net.labels and label in net.labels:
        return net.labels.index(label)
    if label.isdecimal() and int(label) < count:
        return int(label)
    hint = did_you_mean(label, net.labels or ()) or f"; or give its number, 0 to {count - 1}"
    raise UnknownName(f"--class: the net has no class {label!r}{hint}")

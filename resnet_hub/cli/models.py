"""``resnet-hub predict``, ``export`` and ``convert``: using and making model folders."""

import json
from dataclasses import replace
from typing import Any, Literal

from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import CorruptFile, Diverged, InvalidSetting, printable
from resnet_hub.paths import expanded


def predict_command(arguments: list[str]) -> int:
    """Run ``resnet-hub predict``."""
    parser = Arguments("predict", "Name what pictures show: the five likeliest classes of each.")
    parser.add_argument("model", help="a model folder")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="picture files")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    chosen = parser.parse_args(arguments)

    import torch

    from resnet_hub.data.images import read_image
    from resnet_hub.nets.resnet import ResNet

    net = ResNet.from_pretrained(chosen.model)
    mode: Literal["L", "RGB"] = "L" if net.architecture.in_channels == 1 else "RGB"
    answers: list[dict[str, Any]] = []
    for path in chosen.images:
        picture = read_image(expanded(path), mode=mode)
        with torch.inference_mode():
            probabilities = net(net.preprocess(picture)[None]).softmax(1)[0]
        if not probabilities.isfinite().all():
            raise Diverged(
                f"{chosen.model}: no probabilities for {path}: its weights are not finite, or lead "
                "to numbers that are not; export an earlier checkpoint"
            )
        top = probabilities.topk(min(5, len(probabilities)))
        labels = net.labels or [str(i) for i in range(len(probabilities))]
        named = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        best = [{"label": labels[i], "index": i, "probability": p} for i, p in named]
        answers.append({"image": path, "top5": best})
    if chosen.json:
        print(json.dumps(answers, allow_nan=False))
        return 0
    for answer in answers:
        print(printable(answer["image"]))
        for guess in answer["top5"]:
            print(f"  {guess['probability']:6.2%}  {printable(guess['label'])}")
    return 0


def export_command(arguments: list[str]) -> int:
    """Run ``resnet-hub export``."""
    parser = Arguments("export", "Turn a run, or one of its checkpoints, into a model folder.")
    parser.add_argument("source", help="a run's folder, or a checkpoint in one")
    parser.add_argument("folder", help="the model folder to write")
    chosen = parser.parse_args(arguments)

    from resnet_hub.cli.console import quiet
    from resnet_hub.learning.export import export

    quiet()
    card = export(chosen.source, chosen.folder)
    print(printable(f"{chosen.folder}: {card.name}, {card.provenance.source}"))
    return 0


def convert_command(arguments: list[str]) -> int:
    """Run ``resnet-hub convert``."""
    parser = Arguments("convert", "Turn another project's checkpoint into a model folder.")
    parser.add_argument("checkpoint", help=".pth, .th, .ckpt or .safetensors; no code of it runs")
    parser.add_argument("folder", help="the model folder to write")
    parser.add_argument("--net", required=True, help="the net it is for, by its name in the list")
    parser.add_argument("--licence", help="SPDX name of the weights' licence")
    chosen = parser.parse_args(arguments)

    import torch

    from resnet_hub.nets.resnet import ResNet
    from resnet_hub.weights.card import Provenance
    from resnet_hub.weights.convert import convert, read_checkpoint
    from resnet_hub.weights.match import matched
    from resnet_hub.weights.store import sha256_of
    from resnet_hub.zoo import find_row

    # What is mistyped is said before a long read.
    architecture, origin = find_row(chosen.net).architecture, Provenance(licence=chosen.licence)
    path, folder = expanded(chosen.checkpoint), expanded(chosen.folder)
    found = convert(read_checkpoint(path), where=str(path))
    try:
        with torch.device("meta"):  # however many classes the file has: nothing is allocated
            net = ResNet(architecture, classes=found.classes)
    except InvalidSetting as error:
        raise CorruptFile(f"{path}: holds no {chosen.net} ({error})") from error
    net.load_state_dict(matched(found.tensors, net.state_dict(), str(path)), assign=True)
    net.preprocess = found.preprocess or net.preprocess
    net.labels = found.labels
    source = f"{path.name} ({found.form}), SHA-256 {sha256_of(path)}"
    net.save_pretrained(folder, provenance=replace(origin, source=source))
    print(printable(f"{chosen.folder}: {chosen.net}, {found.form}"))
    return 0

"""``resnet-hub predict``: using model folders."""

import json
from typing import Any, Literal

from resnet_hub.cli.answers import tempered
from resnet_hub.cli.arguments import Arguments
from resnet_hub.errors import Diverged, printable
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
        picture = read_image(expanded(path), mode=mode, exif="apply")  # as a person sees it
        with torch.inference_mode():
            logits = net(net.preprocess(picture)[None])[0]
        probabilities = (logits / (net.temperature or 1)).softmax(0)
        if not probabilities.isfinite().all():
            raise Diverged(
                f"{chosen.model}: no probabilities for {path}: its weights are not finite, or lead "
                "to numbers that are not; export an earlier checkpoint"
            )
        top = probabilities.topk(min(5, len(probabilities)))
        labels = net.labels or [str(i) for i in range(len(probabilities))]
        named = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        best = [{"label": labels[i], "index": i, "probability": p} for i, p in named]
        answers.append({"image": path, "top5": best, "temperature": net.temperature})
    if chosen.json:
        print(json.dumps(answers, allow_nan=False))
        return 0
    for line in tempered(net.temperature):
        print(line)
    for answer in answers:
        print(printable(answer["image"]))
        for guess in answer["top5"]:
            print(f"  {guess['probability']:6.2%}  {printable(guess['label'])}")
    return 0

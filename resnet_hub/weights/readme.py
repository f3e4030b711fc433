"""The README of a model folder: front matter that the Hub reads, then what it is, for people."""

import json
import re
from collections.abc import Sequence
from typing import Literal

from resnet_hub.counting import multiply_adds, parameters
from resnet_hub.errors import printable
from resnet_hub.weights.card import Card
from resnet_hub.weights.provenance import Score

_HUB_DATA = {
    "CIFAR-10": "uoft-cs/cifar10",
    "CIFAR-100": "uoft-cs/cifar100",
    "ImageNet": "ILSVRC/imagenet-1k",
}
"""What the Hub calls a data set, by what scores on it are called; official files alone."""


_USES = re.compile(r"(?<=from_pretrained)\(.*\)")
_NOTICE = "# Written from config.json, and anew with each score; words of your own go at the end."
MARK = "<!-- What stands below this line is yours, and is kept. -->\n"
"""Last line of what this package writes into a README."""
Standing = Literal["own", "foreign", "contradicts"]
_MARKED = re.compile(f"^{re.escape(MARK)}", re.MULTILINE)


def write_readme(card: Card, uses: str, *, kept: str = "") -> str:
    """Return the README of a model folder.

    Args:
        card: The card.
        uses: Folder or repository name for the example.
        kept: A person's own words, for the end.
    """
    return _written(card, uses) + MARK + kept


def kept_words(readme: str) -> str | None:
    """Return a person's own words at the end of a README; ``None`` where this package wrote none.

    Args:
        readme: The whole text.
    """
    parts = _MARKED.split(readme, maxsplit=1)
    return parts[1] if len(parts) == 2 else None


def standing(readme: str, card: Card) -> Standing:
    """Return whether a README says what the card does.

    Args:
        readme: The whole text.
        card: The card beside it.

    Returns:
        ``"own"`` where this package wrote it from that card, ``"foreign"`` where it wrote none of
        it, and ``"contradicts"`` where it wrote one that says other things now.
    """
    parts = _MARKED.split(readme, maxsplit=1)
    if len(parts) < 2:
        return "foreign"
    # What the example calls the model is the one thing that the card does not tell.
    own, found = (_USES.sub("", text) for text in (_written(card, ""), parts[0]))
    return "own" if own == found else "contradicts"


def _written(card: Card, uses: str) -> str:
    scores = "".join(_row(score) for score in card.provenance.scores)
    table = f"| data | top-1 | top-5 | n | measured |\n|---|---|---|---|---|\n{scores}"
    return (
        f"---\n{_NOTICE}\n{_front_matter(card)}---\n\n# {card.name}\n\n"
        + "".join(f"- {fact}\n" for fact in _facts(card))
        + f"\n## Scores\n\n{table if scores else 'Not measured.' + chr(10)}"
        + "\n## Use\n\n```python\nfrom resnet_hub import ResNet\n\n"
        + f"net = ResNet.from_pretrained({uses!r})\n"
        + "logits = net(net.preprocess(image)[None])   # image: PIL or uint8 (C, H, W)\n```\n\n"
    )


def _front_matter(card: Card) -> str:
    """Return the metadata, as YAML: texts are quoted as in JSON, which YAML reads alike."""
    scores, licence = card.provenance.scores, card.provenance.licence
    known = {name for score in scores if (name := _HUB_DATA.get(_data(score)[0]))}
    lines = ["library_name: resnet_hub", "pipeline_tag: image-classification", "tags: [resnet]"]
    if licence and re.fullmatch(r"[\w.-]+", licence):
        lines.append(f"license: {licence.lower()}")
    elif licence:  # the Hub has names for single licences alone
        lines += ["license: other", f"license_name: {_slug(licence)}"]
    if known:
        lines.append(f"datasets: {json.dumps(sorted(known))}")
    if scores:
        lines += ["metrics: [accuracy]", "model-index:", f"- name: {json.dumps(card.name)}"]
        lines += ["  results:", *_results(scores)]
    return "".join(f"{line}\n" for line in lines)


def _results(scores: Sequence[Score]) -> list[str]:
    lines = []
    for score in scores:
        data, split = _data(score)
        lines += [
            "  - task:",
            "      type: image-classification",
            "    dataset:",
            f"      type: {json.dumps(_HUB_DATA.get(data, _slug(data)), ensure_ascii=False)}",
            f"      name: {json.dumps(printable(score.data), ensure_ascii=False)}",
            *([f"      split: {split}"] if split else []),
            "    metrics:",
        ]
        precision = score.receipt.precision if score.receipt else "32-true"
        suffix = "" if precision == "32-true" else f" ({precision})"
        for name, value in (("Top-1 accuracy", score.top1), ("Top-5 accuracy", score.top5)):
            lines += ["    - type: accuracy", f"      name: {name}{suffix}"]
            lines.append(f"      value: {value!r}")
    return lines


def _data(score: Score) -> tuple[str, str]:
    """Return a score's data set and, where its last word is one, the split."""
    name, _, split = score.data.rpartition(" ")
    return (name, split) if name and split in ("train", "val", "test") else (score.data, "")


def _slug(text: str) -> str:
    return "-".join(re.findall("[a-z0-9.]+", text.lower())) or "unnamed"


def _row(score: Score) -> str:
    place = f"here, {score.receipt}" if score.receipt else "elsewhere"
    cells = (printable(score.data), f"{score.top1:.2%}", f"{score.top5:.2%}", f"{score.n:,}")
    return f"| {' | '.join(cells)} | {place} |\n"


def _facts(card: Card) -> list[str]:
    net, origin, parity = card.architecture, card.provenance, card.provenance.parity
    versions = origin.versions and ", ".join(f"{k} {v}" for k, v in origin.versions.items())
    named = {
        "source": origin.source,
        "commit": origin.commit,
        "seed": origin.seed,
        "epochs": origin.epochs,
        "parent": origin.parent,
        "versions": versions,
        "hardware": origin.hardware,
        "parity": parity,
        "licence": origin.licence or "unstated",
        "temperature": card.temperature
        and f"{card.temperature:.4g}, which calibrates: `(logits / net.temperature).softmax(1)`",
        "weights' SHA-256": origin.sha256,
    }
    return [
        f"{parameters(net):,} parameters, {multiply_adds(net, card.preprocess.size) / 1e6:,.1f} "
        f"million multiply-adds at {card.preprocess.size} pixels",
        f"{net.classes} classes, {net.in_channels} image channels",
        *(f"{name}: {printable(str(value))}" for name, value in named.items() if value is not None),
        *(["recipe: in `config.json`, under provenance"] if origin.recipe else []),
    ]

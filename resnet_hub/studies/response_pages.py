"""The study of layer responses on paper: its figure, its finding, its page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.errors import InvalidSetting
from resnet_hub.figures import PALETTE, Line, count_along, draw, panels
from resnet_hub.studies.folder import csv_text, write_asked, write_study
from resnet_hub.studies.page import framed
from resnet_hub.studies.responses import Responses, limits, sentences
from resnet_hub.weights.provenance import software
from resnet_hub.zoo import name_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE, PAPER = "How strongly the layers answer", "1512.03385 §4.2, Fig. 7"


def conclude(found: Sequence[Responses], out: Path, *, command: str) -> dict[str, Any]:
    """Write the study's files, and return what ``finding.json`` holds.

    Args:
        found: Of each net, all measured on the same data.
        out: The folder.
        command: What was typed.

    Raises:
        InvalidSetting: Nets that were measured on different data, or too many to be told apart.
        ResNetHubError: The disk refused.
    """
    check_comparable(found)
    first = found[0]
    finding = {
        "format": 1,
        "study": "responses",
        "title": TITLE,
        "paper": PAPER,
        "sentences": sentences(found),
        "limits": limits(found),
        "responses": [_net(own) for own in found],
        "provenance": {
            "command": command,
            "data": first.data,
            "n": first.n,
            "data_sha256": sorted({own.images for own in found}),
            "precision": first.precision,
            "device": first.device,
            "versions": [f"{name} {version}" for name, version in software().items()],
        },
    }
    rows = [
        (own.label, own.model, number, name, repr(std))
        for own in found
        for number, (name, std) in enumerate(zip(own.names, own.std, strict=True), 1)
    ]
    table = csv_text(("net", "model", "layer", "name", "std"), rows)
    write_asked(out, finding, {"models": [own.model for own in found]})
    write_study(out, finding, draw_responses(found), table=table, page=_page(finding))
    return finding


def check_comparable(found: Sequence[Responses]) -> None:
    """Check that nets can stand in one picture.

    Raises:
        InvalidSetting: They were measured on different data, or are too many to be told apart.
    """
    if len(found) > len(PALETTE):
        raise InvalidSetting(
            f"study responses: {len(found)} nets in one picture; up to {len(PALETTE)} have colours "
            "that can be told apart"
        )
    for own in found[1:]:
        if (own.data, own.n) != (found[0].data, found[0].n):
            raise InvalidSetting(
                f"study responses: {found[0].model} was measured on {found[0].n:,} images of "
                f"{found[0].data}, {own.model} on {own.n:,} of {own.data}; give --data for all"
            )


def draw_responses(found: Sequence[Responses]) -> "Figure":
    """Draw the layers in their order, and sorted, as 1512.03385 Fig. 7; plain nets dashed."""
    figure, charts = panels(2)
    for own, colour in zip(found, PALETTE, strict=False):
        dashed = own.architecture.form == "plain"
        x = [float(number) for number in range(1, len(own.std) + 1)]
        draw(charts[0], Line(x, own.std, own.label, colour, dashed))
        draw(charts[1], Line(x, sorted(own.std, reverse=True), own.label, colour, dashed))
    for axes, title, label in (
        (charts[0], "from the image to the classifier", "3×3 layer"),
        (charts[1], "sorted by magnitude", "rank of the 3×3 layer"),
    ):
        axes.set(title=title, xlabel=label, ylabel="standard deviation of responses")
        axes.set_ylim(bottom=0)
        count_along(axes)
        axes.grid(alpha=0.3)
    charts[1].legend()
    return figure


def _net(own: Responses) -> dict[str, Any]:
    return {
        "label": own.label,
        "net": name_of(own.architecture),
        "model": own.model,
        "layers": len(own.std),
        "mean": own.mean,
        "least": min(own.std),
        "most": max(own.std),
        "weights_sha256": own.weights,
    }


def _page(finding: dict[str, Any]) -> str:
    origin = finding["provenance"]
    return framed(
        finding,
        numbers="All numbers are computed from the weights named below; "
        "those of every layer are in [responses.csv](responses.csv).",
        figure="Standard deviation of the layers' responses, in order and sorted",
        body=[
            "| net | 3×3 layers | mean | least | most | weights (SHA-256) |",
            "| --- | --- | --- | --- | --- | --- |",
            *(
                f"| {net['label']} | {net['layers']} | {net['mean']:.3f} | {net['least']:.3f} | "
                f"{net['most']:.3f} | {net['weights_sha256'][:12]}… |"
                for net in finding["responses"]
            ),
            "",
            "A response is a 3×3 convolution's output after its BatchNorm, before activation or "
            "addition; where no norm follows it directly, as at the end of a pre-activation unit, "
            "the convolution's own output. The standard deviation is over images, channels and "
            "places, with the running statistics of evaluation.",
        ],
        provenance=[
            f"Data: {origin['data']}, n = {origin['n']:,} drawn by a fixed key",
            f"Precision {origin['precision']} on {origin['device']}; "
            + ", ".join(origin["versions"]),
        ],
    )

"""What ``resnet-hub test`` tells of a net's answers: lines, tables, pictures, one line an image."""

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli.layers import Layer
from resnet_hub.errors import printable
from resnet_hub.paths import check_place, expanded

if TYPE_CHECKING:
    from resnet_hub.data.module import DataModule
    from resnet_hub.evaluation.calibration import Calibration
    from resnet_hub.evaluation.collected import Logits
    from resnet_hub.evaluation.real import Labels, Real
    from resnet_hub.evaluation.summary import Summary

FILES = ("confusion", "predictions", "real")


def tempered(temperature: float | None) -> list[str]:
    """Return the line that says by what probabilities were tempered; none where by nothing."""
    if temperature is None:
        return []
    return [f"probabilities at the card's temperature, {temperature:.4g}"]


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the scores.

    Attributes:
        per_class: A table of the classes.
        confusion: Where to draw the confusion matrix.
        predictions: Where to write a line an image.
        real: The reassessed labels of ImageNet's validation images.
    """

    per_class: bool
    confusion: Path | None
    predictions: Path | None
    real: "Labels | None"

    @classmethod
    def of(cls, flags: Layer, *, per_class: bool) -> "Wanted":
        """Take the own flags of ``test`` out of what the command line says.

        Raises:
            ResNetHubError: A file that cannot be read, or could not be written at the end.
        """
        named = {name: flags.values.pop(name, None) for name in FILES}
        paths = {name: None if text is None else expanded(text) for name, text in named.items()}
        if paths["predictions"] is not None:
            check_place(paths["predictions"])
        if paths["confusion"] is not None:
            from resnet_hub.figures import check_format

            check_format(paths["confusion"])
        real = None
        if paths["real"] is not None:
            from resnet_hub.evaluation.real import read_real

            real = read_real(paths["real"])
        return cls(per_class, paths["confusion"], paths["predictions"], real)


def write_files(wanted: Wanted, summary: "Summary", logits: "Logits", data: "DataModule") -> None:
    """Write the files that are asked for, each whole or not at all.

    Raises:
        ResNetHubError: The disk refused.
    """
    if wanted.confusion is not None:
        from resnet_hub.evaluation.confusion import draw_confusion
        from resnet_hub.figures import write_figure

        title = f"{data.measured}, n = {summary.n:,}"
        figure = draw_confusion(summary.confusion, data.labels, title=title)
        write_figure(figure, wanted.confusion)
    if wanted.predictions is not None:
        from resnet_hub.weights.store import write_file

        content = _predictions(logits, data).encode("utf-8", "surrogateescape")
        write_file(wanted.predictions, lambda file: file.write(content))


def facts(wanted: Wanted, summary: "Summary", real: "Real | None") -> dict[str, Any]:
    """Return plain values for JSON: of classes only where they are asked for."""
    found = summary.to_dict()
    if not wanted.per_class:
        del found["per_class"], found["confusion"]
    return {**found, **({"real": asdict(real)} if real else {})}


def lines(wanted: Wanted, summary: "Summary", real: "Real | None") -> Iterator[str]:
    """Yield what people are told."""
    yield f"top-1 error {summary.top1_error}, top-5 error {summary.top5_error}"
    if real is not None:
        yield f"ReaL error {real.top1_error}, n = {real.n:,}"
    yield f"calibration: {_calibration(summary.calibration)}"
    if (temperature := summary.temperature) is not None:
        how = "fitted on the validation split"
        if temperature.fitted_on == "tested":
            how = "fitted on these images; judged on each half by the other half's"
        yield f"at temperature {temperature.value:.4g}: {_calibration(temperature.after)} ({how})"
    if summary.images_per_s is not None:
        yield f"{summary.images_per_s:,.0f} images/s on {summary.hardware}"
    yield "intervals: bootstrap, 95%"
    if wanted.per_class:
        yield from _table(summary)


def _calibration(found: "Calibration") -> str:
    return f"ECE {found.ece:.4f}, NLL {found.nll:.4f} nats, Brier {found.brier:.4f}"


def _table(summary: "Summary") -> Iterator[str]:
    names = [printable(row.name) for row in summary.per_class]
    width = max(len(name) for name in (*names, "class"))
    yield f"{'class':{width}}  {'n':>6}  top-1 error  top-5 error  precision  most taken for"
    for name, row in zip(names, summary.per_class, strict=True):
        rates = zip((row.top1_error, row.top5_error, row.precision), (11, 11, 9), strict=True)
        cells = (f"{'-' if x is None else f'{x:.2%}':>{room}}" for x, room in rates)
        other = f"{printable(row.confused_with)} ({row.confused:,})" if row.confused_with else ""
        yield f"{name:{width}}  {row.n:6,}  {'  '.join(cells)}  {other}".rstrip()


def _predictions(logits: "Logits", data: "DataModule") -> str:
    """Return a CSV table with a row an image, in the split's order."""
    from resnet_hub.data.files import ImageFiles

    files, names = data.split(data.tested), data.labels
    best = logits.values.double().softmax(1)
    answers = logits.values.topk(1).indices
    chances = best.gather(1, answers).flatten().tolist()
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["index", "file", "class", "answer", "probability", "right"])
    rows = zip(logits.indices.tolist(), logits.labels.tolist(), strict=True)
    for (index, label), answer, chance in zip(
        rows, answers.flatten().tolist(), chances, strict=True
    ):
        path = files.path(index) if isinstance(files, ImageFiles) else ""
        right = int(label == answer)
        table.writerow([index, path, names[label], names[answer], f"{chance:.6f}", right])
    return stream.getvalue()

"""A look at a folder of pictures, in lines for a person."""

import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resnet_hub.errors import printable
from resnet_hub.learning.finetuning import SKEWED

if TYPE_CHECKING:
    from resnet_hub.data.look import Look
    from resnet_hub.weights.card import Card

_MOST_CLASSES, _MOST_FINDINGS = 20, 20


def report(look: "Look", card: "Card") -> Iterator[str]:
    """Yield the lines of a report.

    Args:
        look: At the folder.
        card: Of the weights that it is for.
    """
    splits = ", ".join(f"{split} {sum(counts):,}" for split, counts in look.counts.items())
    yield f"{look.root}: {len(look.labels):,} classes, {look.pictures:,} pictures ({splits})"
    yield from _drawn(_classes(look))
    facts = dict(_facts(look, card))
    width = max(map(len, facts))
    for name, text in facts.items():
        yield f"{name:{width}}  {text}"
    for finding in look.findings[:_MOST_FINDINGS]:
        yield f"{'damaged' if finding.damage else 'warning'}: {finding.path}: {finding.reason}"
    if (more := len(look.findings) - _MOST_FINDINGS) > 0:
        yield f"and {more:,} more, which `{_check_command(look)}` lists"


def _check_command(look: "Look") -> str:
    same = f" --data.held_out {look.held_out}" if look.held_out else ""
    return f"resnet-hub data check Folder --data.root {shlex.quote(look.root)}{same}"


def _classes(look: "Look") -> Table:
    """Return the classes, largest first; of many those in the middle are left out."""
    table = Table("class", *look.counts)
    for column in table.columns[1:]:
        column.justify = "right"
    order = sorted(range(len(look.labels)), key=lambda label: -look.counts["train"][label])
    ends = _MOST_CLASSES // 2
    for place, label in enumerate(order):
        if len(order) <= _MOST_CLASSES or not ends <= place < len(order) - ends:
            counts = (f"{counts[label]:,}" for counts in look.counts.values())
            table.add_row(Text(printable(look.labels[label])), *counts)
        elif place == ends:
            table.add_row(f"… {len(order) - 2 * ends:,} more", *("" for _ in look.counts))
    return table


def _drawn(table: Table) -> Iterator[str]:
    console = Console(width=None if sys.stdout.isatty() else 120, color_system=None)
    with console.capture() as shown:
        console.print(table)
    yield from shown.get().splitlines()


def _facts(look: "Look", card: "Card") -> Iterator[tuple[str, str]]:
    sides = (f"{width}×{height}" for width, height in (look.smallest, look.median, look.largest))
    smallest, median, largest = sides
    yield "sizes", f"{smallest} (smallest), {median} (median), {largest} (largest)"
    yield "colour", _colour(look, card)
    counts = look.counts["train"]
    least, most = (look.labels[counts.index(end(counts))] for end in (min, max))
    told = f"the largest class has {look.skew:.1f} × the training pictures of the smallest"
    if look.skew > 1:
        told += f" ({most!r} {max(counts):,}, {least!r} {min(counts):,})"
    yield "skew", f"{told}{'; that is much' if look.skew > SKEWED else ''}"
    turned = f"{look.turned:,} by their EXIF, and set upright" if look.turned else "none"
    yield "turned", turned
    yield "damage", _damage(look)
    yield "repeated", _repeated(look)
    if look.held_out:
        yield (
            "val",
            "there is no val/: training pictures are held out, the same share of each class",
        )


def _colour(look: "Look", card: "Card") -> str:
    total, channels = look.pictures, card.architecture.in_channels
    grey = "none is grey" if not look.grey else f"{look.grey:,} of {total:,} are grey"
    if channels == 1 and look.grey < total:
        return f"{grey}; the weights take grey pictures, so colours are left out"
    return f"{grey}; the weights take {channels} channels"


def _damage(look: "Look") -> str:
    if not (look.unreadable or look.damaged):
        return "none"
    unreadable = f"not to be read, and left out: {look.unreadable:,}"
    damaged = f"trained on as they are, unless you remove them: {look.damaged:,}"
    told = [(look.unreadable, unreadable), (look.damaged, damaged)]
    return "; ".join(text for count, text in told if count)


def _repeated(look: "Look") -> str:
    splits = f"in two splits, so that scores will be too good: {look.in_two_splits:,}"
    classes = f"under two classes, of which one is wrong: {look.in_two_classes:,}"
    told = [(look.in_two_splits, splits), (look.in_two_classes, classes)]
    return "; ".join(text for count, text in told if count) or "none, byte for byte"

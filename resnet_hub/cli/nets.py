"""``resnet-hub list`` and ``info``: the architecture table, and model folders. No torch."""

import json
import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from resnet_hub.architecture import Architecture
from resnet_hub.cli.arguments import Arguments
from resnet_hub.counting import multiply_adds, natural_size, parameters
from resnet_hub.errors import printable
from resnet_hub.weights.catalog import CATALOG, default_of, packaged, weights_of
from resnet_hub.weights.sources import Published, parse
from resnet_hub.zoo import ARCHITECTURES, find_row


def list_command(arguments: list[str]) -> int:
    """Run ``resnet-hub list``."""
    parser = Arguments("list", "Every net of the table. Errors are the sources', not ours.")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")
    chosen = parser.parse_args(arguments)
    rows = [_described(name) for name in ARCHITECTURES]
    if chosen.json:
        print(json.dumps(rows, indent=2, allow_nan=False))
        return 0
    columns: tuple[tuple[str, JustifyMethod], ...] = (
        ("net", "left"),
        ("parameters", "right"),
        ("multiply-adds", "right"),
        ("pixels", "right"),
        ("error", "right"),
        ("measured on", "left"),
        ("source", "left"),
        ("weights", "left"),
    )
    table = Table()
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=True)
    # One tall cell a column looks the same as one a net, and is drawn in a fraction of the time.
    table.add_row(*(Text("\n".join(cells)) for cells in zip(*map(_cells, rows), strict=True)))
    Console(width=None if sys.stdout.isatty() else 200, emoji=False).print(table)
    return 0


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what the table says of a net, column by column."""
    return (
        row["net"],
        f"{row['parameters']:,}",
        f"{row['multiply_adds'] / 1e6:,.1f} M",
        str(row["pixels"]),
        "" if row["error"] is None else f"{row['error']:.2f} %",
        row["measure"],
        row["source"],
        " ".join(full.partition(".")[2] for full in row["weights"]),
    )


def info_command(arguments: list[str]) -> int:
    """Run ``resnet-hub info``."""
    parser = Arguments("info", "One net of the table, or a model folder's card.")
    parser.add_argument("source", help="a net's name, its weights' name, or any model")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    chosen = parser.parse_args(arguments)
    facts = _facts(chosen.source)
    if chosen.json:
        print(json.dumps(facts, indent=2, allow_nan=False))
        return 0
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, Text(printable(_shown(value))))  # no markup, whatever it holds
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    return 0


def _facts(source: str) -> dict[str, Any]:
    """Return what is known of a source, without fetching the weights that the catalog tells of."""
    if isinstance(parse(source), Published):
        if source in ARCHITECTURES:
            return _described(source)
        if source in CATALOG and packaged(source) is None:
            entry = asdict(CATALOG[source])
            return {"weights": entry.pop("name"), "net": CATALOG[source].net, **entry}
    return _card(source)


def _described(name: str) -> dict[str, Any]:
    row = find_row(name)
    published = {"error": row.error, "measure": row.measure, "source": row.source}
    net, default = row.architecture, default_of(name)
    return {
        **{"net": name, **_counts(net, natural_size(net)), **published},
        "weights": list(weights_of(name)),
        "default": default.name if default else None,
    }


def _counts(net: Architecture, pixels: int) -> dict[str, Any]:
    return {
        "parameters": parameters(net),
        "multiply_adds": multiply_adds(net, pixels),
        "pixels": pixels,
        "layers": net.layers,
        "classes": net.classes,
    }


def _card(source: str) -> dict[str, Any]:
    from resnet_hub.weights.card import read_card
    from resnet_hub.weights.hub import resolve

    card = read_card(resolve(source))
    origin = card.provenance
    return {
        "net": card.name,
        **_counts(card.architecture, card.preprocess.size),
        "labels": list(card.labels) if card.labels else None,
        "preprocess": card.preprocess.to_dict(),
        "scores": [
            {**vars(score), "receipt": None if score.receipt is None else str(score.receipt)}
            for score in origin.scores
        ],
        "source": origin.source,
        "commit": origin.commit,
        "seed": origin.seed,
        "epochs": origin.epochs,
        "parent": origin.parent,
        "versions": origin.versions and dict(origin.versions),
        "hardware": origin.hardware,
        "parity": origin.parity and str(origin.parity),
        "licence": origin.licence,
        "sha256": origin.sha256,
    }


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        more = len(value) - 10
        return ", ".join(_shown(item) for item in value[:10]) + (
            f", … {more} more" if more > 0 else ""
        )
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value)
    return f"{value:,}" if isinstance(value, int) else str(value)

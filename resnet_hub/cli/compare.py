"""``resnet-hub compare``: models side by side."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resnet_hub.cli.layers import Layer, read_flags
from resnet_hub.cli.measuring import net_of, opened, recipe_of
from resnet_hub.errors import InvalidSetting, printable
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.report.compare import Compared

HELP = """usage: resnet-hub compare MODEL... [--data NAME] [--data.KEY X] [--trainer.KEY X]
                          [--out FILE.png|svg] [--json]

Lists what models cost and how often they are wrong: parameters, multiply-adds, top-1 error with its
interval and n, size of the file. MODEL is whatever loads: a folder, a published name, a repository.
With --data each of them answers that data's tested split, and images a second are told; without,
their recorded scores are shown, on the data that most of them have one on.

  resnet-hub compare runs/*/1/model --out cost.png
  resnet-hub compare a/model b/model --data Cifar10 --data.root ~/data --json
"""

_SECTIONS = ("data", "trainer", "out", "seed")


def compare_command(arguments: list[str]) -> int:
    """Run ``resnet-hub compare``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    as_json = "--json" in arguments
    flags, names = read_flags([argument for argument in arguments if argument != "--json"])
    for section in flags.values:
        if section not in _SECTIONS:
            told = "--data…, --trainer…, --seed, --out"
            raise InvalidSetting(f"--{section}: compare takes {told} and --json")
    if not names:
        raise InvalidSetting("compare: needs models (see `resnet-hub compare --help`)")
    given = flags.values.pop("out", None)
    out = None if given is None else expanded(given)

    from resnet_hub.figures import check_format
    from resnet_hub.report.compare import draw_comparison

    if out is not None:
        check_format(out)
    rows = _rows(names, flags)
    if out is not None:
        draw_comparison(rows, out)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False))
        return 0
    _show(rows)
    if out is not None:
        print(printable(f"drawn: {out}"))
    return 0


def _rows(names: list[str], flags: Layer) -> "list[Compared]":
    from resnet_hub.report.compare import compared, recorded_result, shared_data
    from resnet_hub.weights.card import read_card
    from resnet_hub.weights.hub import resolve

    folders = [resolve(_model(name)) for name in names]
    cards = [read_card(folder) for folder in folders]
    found = list(zip(names, folders, cards, strict=True))
    if "data" in flags.values:
        return [_measured(name, folder, flags) for name, folder, _ in found]
    data = shared_data(cards)
    return [
        compared(name, folder, card, recorded_result(card, data)) for name, folder, card in found
    ]


def _model(name: str) -> str:
    """Return a run's exported model, where a run is named."""
    model = expanded(name) / "model"
    return str(model) if (expanded(name) / "recipe.yaml").is_file() and model.is_dir() else name


def _measured(name: str, folder: Path, flags: Layer) -> "Compared":
    from resnet_hub.cli import stdout
    from resnet_hub.evaluation.cached import logits
    from resnet_hub.evaluation.summary import summarise
    from resnet_hub.report.compare import compared, measured_result
    from resnet_hub.weights.card import read_card

    recipe, _ = recipe_of(str(folder), flags, command="compare")
    net = net_of(folder)
    data = opened(recipe, net.preprocess)
    with stdout.clear():
        found = logits(net, data, trainer=recipe.trainer)
    result = measured_result(data.measured, summarise(found, data.labels))
    pace, hardware = found.images_per_s, found.hardware
    return compared(name, folder, read_card(folder), result, pace, hardware)


def _show(rows: "list[Compared]") -> None:
    results = [row.result for row in rows if row.result is not None]
    title = f"{results[0].data}, n = {results[0].n:,}" if results else "no score is recorded"
    table = Table(title=Text(printable(title)))
    table.add_column("model", overflow="fold")
    for name in ("parameters", "multiply-adds", "top-1 error", "95% interval", "file", "images/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    Console(width=None if sys.stdout.isatty() else 140, emoji=False).print(table)
    measured = dict.fromkeys(row.hardware for row in rows if row.images_per_s is not None)
    if measured:
        print(printable(f"images/s on {', '.join(filter(None, measured))}"))


def _cells(row: "Compared") -> tuple[str, ...]:
    result, pace = row.result, row.images_per_s
    error, ends = "unmeasured", ""
    if result is not None:
        error = f"{result.error:.2%}"
        ends = " to ".join(f"{100 * end:.2f}" for end in result.interval)
    label = row.name if row.net in row.name else f"{row.name} ({row.net})"
    return (
        printable(label),
        f"{row.parameters:,}",
        f"{row.multiply_adds / 1e6:,.1f} M",
        error,
        ends,
        f"{row.file_bytes / 1e6:,.1f} MB",
        "unmeasured" if pace is None else f"{pace:,.0f}",
    )

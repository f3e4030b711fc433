"""``resnet-hub reproduce``: a paper's table beside what was measured here."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli import stdout
from resnet_hub.cli.layers import read_flags
from resnet_hub.cli.recipes import check, read_recipe
from resnet_hub.cli.study_runs import plan, seeds_of, split_flags, tell, train_all
from resnet_hub.errors import DataMissing, InvalidSetting, UnknownName, did_you_mean, printable
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded
from resnet_hub.studies.members import Member, as_flags
from resnet_hub.studies.published import FAILED, TABLES, PaperTable

if TYPE_CHECKING:
    from resnet_hub.studies.reproduce import Measure, Model, ReproducedRow
    from resnet_hub.weights.provenance import Score

HELP = """usage: resnet-hub reproduce TABLE [--runs DIR,DIR] [--json]
       resnet-hub reproduce TABLE --data ImageNet [--data.KEY X] [--trainer.KEY X] [--runs …]
       resnet-hub reproduce TABLE --run [--seeds 0] [--steps N] [--out DIR] [--key value ...]
                                  [--dry-run]

Shows a paper's table beside what was measured here: each row's error, ours as mean and standard
deviation over the runs that were found, the band that ours should lie in, and a verdict. The last
step counts; nothing is chosen on a test set. Runs that are shorter than the paper's, and those on
other files than the official ones, are shown without a verdict. What was not measured says so.

Tables: {tables}

--runs     folders that models are looked for in, at any depth (runs,studies)
--data     of a table of ImageNet nets: measure the models that are found by the table's own
           protocol, perhaps ten crops; their answers are kept (`resnet-hub cache list`)
--run      train what no run was found for, as `resnet-hub study` does, in --out (studies/TABLE)
--seeds    a run each; those that count for a row already are not trained again
--steps    another length for these, in optimizer steps
--dry-run  with --run: tell what would be trained
"""

_SWITCHES = ("--run", "--dry-run", "--json")
_OWN = ("runs", "seeds", "steps", "out")


def reproduce_command(arguments: list[str]) -> int:
    """Run ``resnet-hub reproduce``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP.format(tables=", ".join(TABLES)))
        return 0
    name, *rest = arguments
    if name not in TABLES:
        hint = did_you_mean(name, TABLES) or f"; known: {', '.join(TABLES)}"
        raise UnknownName(f"no table is called {name!r}{hint}")
    run, dry, as_json = (switch in rest for switch in _SWITCHES)
    own, flags = split_flags([a for a in rest if a not in _SWITCHES], _OWN)
    table, code = TABLES[name], 0
    measure = None if run else _measure(table, flags)
    _check(run, dry, own, [] if measure else flags)
    out = expanded(own.get("out", f"studies/{name}"))
    roots = _roots(own.get("runs"), out if run else None)
    rows, unread = _rows(table, roots, measure)
    if run:
        missing = _missing(table, rows, seeds_of(own))
        runs = [
            run for run in plan(list(missing), own, flags, out) if run.seed in missing[run.member]
        ]
        if dry:
            tell(runs, as_json=as_json)
            return 0
        code = train_all(runs, as_json=as_json)
        rows, unread = _rows(table, _roots(own.get("runs"), out))
    for line in unread:
        print(f"left out: {printable(line)}", file=sys.stderr)
    _show(table, rows, as_json=as_json)
    return code


def _check(run: bool, dry: bool, own: dict[str, str], flags: Sequence[str]) -> None:
    if not run and (dry or flags or set(own) - {"runs"}):
        given = "--dry-run" if dry else next((f"--{k}" for k in own if k != "runs"), None)
        raise InvalidSetting(f"{given or flags[0].partition('=')[0]}: goes with --run")


def _roots(given: str | None, out: Path | None) -> list[Path]:
    """Return the folders that are looked through; the usual ones need not be there."""
    if given is None:
        roots = [root for root in (Path("runs"), Path("studies")) if root.is_dir()]
    else:
        roots = [expanded(part.strip()) for part in given.split(",")]
        for root in roots:
            if not root.is_dir():
                raise DataMissing(f"--runs: {root} is no folder")
    return [*roots, out] if out is not None and out.is_dir() else roots


def _rows(
    table: PaperTable, roots: Sequence[Path], measure: "Measure | None" = None
) -> tuple[list["ReproducedRow"], list[str]]:
    from resnet_hub.studies.reproduce import find_models, reproduce

    models, unread = find_models(roots)
    members = [row.member for row in table.rows if row.member is not None]
    with stdout.clear():
        rows = reproduce(table, {m: _recipe(m) for m in members}, models, measure=measure)
    return rows, unread


def _measure(table: PaperTable, flags: Sequence[str]) -> "Measure | None":
    """Return what measures the models of a table of weights, if the flags name a data set.

    Raises:
        InvalidSetting: Flags of other sections.
    """
    layer = read_flags(flags)[0]
    if "data" not in layer.values or any(row.member for row in table.rows):
        return None
    if other := set(layer.values) - {"data", "trainer"}:
        raise InvalidSetting(f"--{min(other)}: reproduce takes --data…, --trainer… and --runs")
    recipe = check(layer)

    def measure(model: "Model", protocol: str) -> "Score":
        from resnet_hub.cli.console import quiet
        from resnet_hub.studies.protocols import measured

        quiet()
        return measured(model.folder, protocol, recipe.data, trainer=recipe.trainer)

    return measure


def _recipe(member: Member) -> Recipe:
    return read_recipe([member.recipe], read_flags(as_flags(member.settings))[0])


def _missing(
    table: PaperTable, rows: Sequence["ReproducedRow"], seeds: Sequence[int]
) -> dict[Member, list[int]]:
    """Return the seeds of each net that have to be trained: those that no counting run has.

    Raises:
        InvalidSetting: The table is of ImageNet nets.
    """
    if not any(row.member for row in table.rows):
        raise InvalidSetting(
            f"--run: {table.name} is of ImageNet nets, which take days on several GPUs; train them "
            "by `resnet-hub fit imagenet_…`, or fetch weights, and measure them by --data ImageNet"
        )
    missing: dict[Member, list[int]] = {}
    for row in rows:
        there = row.ours.seeds if row.ours is not None and row.verdict != "none" else ()
        lacking = [seed for seed in seeds if seed not in there]
        if row.published.member is not None and lacking:
            missing[row.published.member] = lacking
    return missing


def _show(table: PaperTable, rows: Sequence["ReproducedRow"], *, as_json: bool) -> None:
    from resnet_hub.studies.reproduce import to_dict

    if as_json:
        content: dict[str, Any] = {
            "table": table.name,
            "title": table.title,
            "tolerance": table.tolerance,
            "tolerance_from": table.why,
            "rows": [to_dict(row) for row in rows],
        }
        stdout.show(json.dumps(content, allow_nan=False))
        return
    stdout.show(f"{table.title}; top-1 errors in percent")
    cells = [("", "paper", "ours", "runs", "n", "band", "verdict"), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        shown = "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        stdout.show(printable(shown.rstrip()))
    for row in rows:
        for note in row.notes:
            stdout.show(printable(f"{row.published.label}: {note}"))
    stdout.show(
        f"band: the paper's mean ± 2 standard deviations where it gives one, else ± "
        f"{table.tolerance:g} points ({table.why})"
    )


def _cells(row: "ReproducedRow") -> tuple[str, ...]:
    paper, ours = row.published, row.ours
    error = f"over {FAILED:g}" if paper.error is None else f"{paper.error:.2f}"
    spread = "" if paper.std is None else f" ± {paper.std:.2f}"
    remark = f" ({', '.join(filter(None, (paper.protocol, paper.remark)))})"
    band = f"over {FAILED:g}" if row.band is None else "{:.2f} to {:.2f}".format(*row.band)
    found = ("unmeasured", "0", "")
    if ours is not None:
        std = "" if ours.std is None else f" ± {ours.std:.2f}"
        found = (f"{ours.mean:.2f}{std}", str(len(ours.errors)), f"{ours.n:,}")
    said = f"{error}{spread}{remark if paper.protocol or paper.remark else ''}"
    return (paper.label, said, *found, band, row.verdict)

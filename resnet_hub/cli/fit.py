"""``resnet-hub fit``: train by a recipe."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resnet_hub.cli.layers import Layer, find_recipe, read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.learning.fit import Result

SWITCHES = ("--allow-changed", "--dry-run", "--json")

HELP = """usage: resnet-hub fit RECIPE... [--key value ...] [--out FOLDER]
       resnet-hub fit RECIPE... [--key value ...] --dry-run [--json]
       resnet-hub fit --resume RUN

Trains a net by a recipe, tests it and exports it to RUN/model.

RECIPE is a file, or the name of a recipe of this package (`quickstart`). Of several, and of the
flags behind them, the later one wins. Sections: seed, net, data, model, optimizer, schedule,
checkpoint, progress, distributed, trainer (Lightning's options), callbacks, logger. Any key can
be given as a flag:

  resnet-hub fit quickstart --trainer.max_epochs 3 --optimizer.lr 0.05
  resnet-hub fit recipes/cifar10_resnet20.yaml --data.root ~/data --data.download false

--dry-run      open data and net, take three steps, print what the run would be (batches, learning
               rate, steps, decay groups, FLOPs, time) and leave nothing; --json prints one object
--out FOLDER   the run's folder instead of runs/<recipe>/<n>
--resume RUN   go on with a run that was stopped, from its newest whole checkpoint
--allow-changed   go on though its recipe, its data or the number of processes changed
"""


def fit_command(arguments: list[str]) -> int:
    """Run ``resnet-hub fit``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    allow_changed, dry, as_json = (switch in arguments for switch in SWITCHES)
    flags, names = read_flags([a for a in arguments if a not in SWITCHES])
    out, resume = _taken(flags, "out"), _taken(flags, "resume")
    if as_json and not dry:
        raise InvalidSetting("--json: goes with --dry-run")
    if resume is not None:
        if names or out is not None or flags.values or dry:
            raise InvalidSetting("--resume: the run's own recipe is used; give nothing else")
        recipe = _recipe_of(resume)
    elif allow_changed:
        raise InvalidSetting("--allow-changed: goes with --resume RUN")
    elif names:
        recipe = read_recipe(names, flags)
    else:
        raise InvalidSetting("fit: which recipe? `resnet-hub fit quickstart` is a beginning")
    if dry:
        from resnet_hub.cli.dry_run import dry_run

        return dry_run(recipe, as_json=as_json)
    name = find_recipe(names[-1]).stem if names else ""
    return train(recipe, name, out, resume=resume, allow_changed=allow_changed)


def train(
    recipe: Recipe,
    name: str,
    out: Path | None,
    *,
    resume: Path | None = None,
    allow_changed: bool = False,
    finished: "Callable[[Result], None] | None" = None,
) -> int:
    """Train by a recipe, test, export, say what came of it, and return the exit code.

    Args:
        recipe: Checked.
        name: Of the recipe; runs lie in ``runs/<name>/<n>``.
        out: The run's folder instead.
        resume: A run to go on with instead.
        allow_changed: See :func:`~resnet_hub.learning.fit.fit`.
        finished: Tells of the result instead of :func:`~resnet_hub.cli.console.finish`.

    Raises:
        ResNetHubError: The run cannot begin, or go on.
    """
    # Everything was parsed; only now the slow imports.
    from lightning.pytorch.utilities import rank_zero_only

    from resnet_hub.cli.console import finish, group, quiet, say, shows_bar
    from resnet_hub.learning.fit import fit
    from resnet_hub.learning.processes.requeue import requeue
    from resnet_hub.learning.processes.stopping import Interrupted
    from resnet_hub.learning.saving.run import Run

    quiet()
    is_first = cast(Any, rank_zero_only).rank == 0
    if resume is not None:
        run = Run.find(resume)
        if is_first:
            run.hold()
    elif is_first:
        run = Run.create(recipe, name, out)
    else:  # rank 0's counts
        run = Run(Path("runs"))
    try:
        with group():
            result = fit(
                recipe,
                run,
                resume=resume is not None,
                bar=shows_bar(),
                say=say,
                allow_changed=allow_changed,
            )
    except Interrupted as stop:
        on = f"go on with: resnet-hub fit --resume {shlex.quote(str(run.folder))}"
        say(f"stopped by {stop}; {on if run.is_saved() else 'nothing was saved yet'}")
        if is_first and stop.requeues and run.is_saved() and (told := requeue()):
            say(told)
        return stop.code
    finally:
        run.forget()
    (finished or finish)(result)
    return 0


def _taken(flags: Layer, name: str) -> Path | None:
    value = flags.values.pop(name, None)
    return None if value is None else expanded(value)


def _recipe_of(run: Path) -> Recipe:
    path = run / "recipe.yaml"
    if not path.is_file():
        raise DataMissing(f"{run}: no run to resume (it holds no {path.name})")
    return read_recipe([str(path)], Layer())

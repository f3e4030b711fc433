"""``resnet-hub fit``: train by a recipe."""

import shlex
from pathlib import Path
from typing import Any, cast

from resnet_hub.cli.layers import Layer, find_recipe, read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

HELP = """usage: resnet-hub fit RECIPE... [--key value ...] [--out FOLDER]
       resnet-hub fit --resume RUN

Trains a net by a recipe, tests it and exports it to RUN/model.

RECIPE is a file, or the name of a recipe of this package (`quickstart`). Of several, and of the
flags behind them, the later one wins. Sections: seed, net, data, model, optimizer, schedule,
trainer (Lightning's options), callbacks, logger. Any key can be given as a flag:

  resnet-hub fit quickstart --trainer.max_epochs 3 --optimizer.lr 0.05
  resnet-hub fit recipes/cifar10_resnet20.yaml --data.root ~/data --data.download false

--out FOLDER   the run's folder instead of runs/<recipe>/<n>
--resume RUN   go on with a run that was stopped, from its last checkpoint
"""


def fit_command(arguments: list[str]) -> int:
    """Run ``resnet-hub fit``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    flags, names = read_flags(arguments)
    out, resume = _taken(flags, "out"), _taken(flags, "resume")
    if resume is not None:
        if names or out is not None or flags.values:
            raise InvalidSetting("--resume: the run's own recipe is used; give nothing else")
        recipe = _recipe_of(resume)
    elif names:
        recipe = read_recipe(names, flags)
    else:
        raise InvalidSetting("fit: which recipe? `resnet-hub fit quickstart` is a beginning")
    return _fit(recipe, names, out, resume)


def _fit(recipe: Recipe, names: list[str], out: Path | None, resume: Path | None) -> int:
    # Everything was parsed; only now the slow imports.
    from lightning.pytorch.utilities import rank_zero_only

    from resnet_hub.cli.console import finish, group, quiet, say, shows_bar
    from resnet_hub.learning.fit import fit
    from resnet_hub.learning.run import Run
    from resnet_hub.learning.stopping import Interrupted

    quiet()
    if resume is not None:
        run = Run.find(resume)
    elif cast(Any, rank_zero_only).rank == 0:
        run = Run.create(recipe, find_recipe(names[-1]).stem, out)
    else:  # rank 0's counts
        run = Run(Path("runs"))
    try:
        with group():
            result = fit(recipe, run, resume=resume is not None, bar=shows_bar(), say=say)
    except Interrupted as stop:
        on = f"go on with: resnet-hub fit --resume {shlex.quote(str(run.folder))}"
        say(f"stopped by {stop}; {on if run.last.is_file() else 'nothing was saved yet'}")
        return 128 + stop.signum
    finally:
        run.forget()
    finish(result)
    return 0


def _taken(flags: Layer, name: str) -> Path | None:
    value = flags.values.pop(name, None)
    return None if value is None else expanded(value)


def _recipe_of(run: Path) -> Recipe:
    path = run / "recipe.yaml"
    if not path.is_file():
        raise DataMissing(f"{run}: no run to resume (it holds no {path.name})")
    return read_recipe([str(path)], Layer())

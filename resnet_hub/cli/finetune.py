"""``resnet-hub finetune``: from a folder of pictures to a model that names them."""

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resnet_hub.cli.commented_yaml import commented
from resnet_hub.cli.fit import train
from resnet_hub.cli.layers import Layer, read_flags
from resnet_hub.cli.recipes import check, read_recipe, whole
from resnet_hub.errors import InvalidSetting, did_you_mean
from resnet_hub.learning.settings import DataSettings, Recipe
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.data.folder import Folder
    from resnet_hub.data.look import Look
    from resnet_hub.weights.card import Card

HELP = """usage: resnet-hub finetune DIR [--from WEIGHTS] [--epochs N] [--out RUN] [--recipe FILE]
                           [--dry-run] [--key value ...]

Makes a net of your pictures. DIR holds a folder of pictures for each class, with train/, val/ and
test/ above them or not: without val/ a fifth of the training pictures is held out. The command

  looks   at every picture, and reports classes, sizes, skew, damage and repeated pictures
  writes  finetune_<DIR>.yaml here: a whole recipe that says why each value was chosen
  trains  by it, as `resnet-hub fit finetune_<DIR>.yaml` would, tests, and exports RUN/model

  resnet-hub finetune pets
  resnet-hub finetune pets --from resnet18 --epochs 20 --optimizer.lr 0.005
  resnet-hub finetune pets --from ./model --dry-run

--from WEIGHTS   what to begin from, by default resnet50: published weights by their name, a model
                 folder, a Hub repository (org/repo), or a URL with its digest
--epochs N       by default 5, and more where the pictures are few
--recipe FILE    write the recipe there; one that is there and says otherwise is never overwritten
--dry-run        look, write the recipe, print what the run would be, and train nothing
--out RUN        the run's folder instead of runs/finetune_<DIR>/<n>

Any key of a recipe can be given as a flag, and stands in the recipe then. Files that cannot be read
are told of and left out (data.on_bad_image: skip).
"""

_MOST_EPOCHS = 100_000
_OWN = ("from", "epochs", "out", "recipe")
_ELSEWHERE = {
    ("data", "name"): "a folder of pictures it is; for other data write a recipe",
    ("data", "root"): "give the folder first: resnet-hub finetune DIR",
    ("net", "name"): "the weights fix the net; give --from",
    ("net", "weights"): "give --from",
}


def finetune_command(arguments: list[str]) -> int:
    """Run ``resnet-hub finetune``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    flags, names = read_flags([argument for argument in arguments if argument != "--dry-run"])
    if len(names) != 1:
        raise InvalidSetting("finetune: needs one folder (see `resnet-hub finetune --help`)")
    own = {name: flags.values.pop(name) for name in _OWN if name in flags.values}
    _take_epochs(flags, own.get("epochs"))
    weights = own.get("from", "resnet50")
    asked = _checked(flags, names[0], weights)
    out = expanded(own["out"]) if "out" in own else None
    path = expanded(own.get("recipe", _recipe_name(names[0])))
    if path.suffix not in (".yaml", ".yml") or path.is_dir():
        raise InvalidSetting(f"--recipe {path}: give a .yaml file")
    return _finetune(asked, dict(_given(flags, asked)), path, out, dry="--dry-run" in arguments)


def _finetune(
    asked: Recipe, given: Mapping[str, Any], path: Path, out: Path | None, *, dry: bool
) -> int:
    from resnet_hub.cli.console import files_bar, quiet, say, shows_bar
    from resnet_hub.cli.folder_report import report
    from resnet_hub.cli.next_steps import next_steps
    from resnet_hub.data.look import look
    from resnet_hub.data.workers import available_cores
    from resnet_hub.learning.finetuning import choose, nested
    from resnet_hub.learning.saving.run import Run
    from resnet_hub.weights.card import read_card
    from resnet_hub.weights.hub import resolve

    quiet()
    if out is not None:
        Run.check_out(out)
    # What is refused soon comes first: folders, then weights, then pictures.
    data = _opened(asked, given)
    weights = str(asked.net.weights)
    card = read_card(resolve(weights))
    with files_bar(shown=shows_bar()) as advance:
        seen = look(data, advance=advance)
    for line in report(seen, card):
        say(line)
    choices = choose(seen, card, weights=weights, cores=available_cores(), asked=given)
    _check_begins(whole(Layer(nested(choices))))
    _write(path, commented(_opening(path, seen, card, weights), choices))
    say(f"recipe {path}")
    recipe = read_recipe([str(path)], Layer())
    if dry:
        from resnet_hub.cli.dry_run import dry_run

        return dry_run(recipe, as_json=False)
    return train(recipe, path.stem, out, finished=partial(next_steps, look=seen, recipe=path))


def _take_epochs(flags: Layer, text: str | None) -> None:
    """Put ``--epochs`` where a recipe has it."""
    trainer = flags.values.get("trainer", {})
    if text is not None:
        if "max_epochs" in trainer:
            raise InvalidSetting("--epochs: is trainer.max_epochs; give one of the two")
        trainer = flags.values["trainer"] = {**trainer, "max_epochs": text}
        flags.places["trainer", "max_epochs"] = "--epochs"
        if text.isdecimal():
            trainer["max_epochs"] = int(text)
    epochs = trainer.get("max_epochs", 1)
    if not isinstance(epochs, int) or not 1 <= epochs <= _MOST_EPOCHS:
        name = "--trainer.max_epochs" if text is None else "--epochs"
        raise InvalidSetting(f"{name}: {epochs!r} is no number of epochs, 1 to {_MOST_EPOCHS:,}")


def _checked(flags: Layer, root: str, weights: str) -> Recipe:
    """Return what flags, folder and weights say, all else being the defaults."""
    known = {*_OWN, *(field.name for field in fields(Recipe))}
    for name in flags.values:
        if name not in known:
            hint = did_you_mean(name, known) or " (see `resnet-hub finetune --help`)"
            raise InvalidSetting(f"--{name}: finetune has no such flag{hint}")
    for (section, name), instead in _ELSEWHERE.items():
        if name in (flags.values.get(section) or {}):
            raise InvalidSetting(f"--{section}.{name}: {instead}")
    own = {"net": {"weights": weights}, "data": {"name": "Folder", "root": root}}
    asked = check(flags.over(Layer(own, {("data", "root"): root, ("net", "weights"): "--from"})))
    if asked.trainer.get("devices", 1) != 1:
        raise InvalidSetting(
            "--trainer.devices: finetune looks, writes and trains on one; for more, let it write "
            "the recipe by --dry-run, then `resnet-hub fit` that"
        )
    return asked


def _given(flags: Layer, asked: Recipe) -> Iterator[tuple[str, Any]]:
    """Yield what the flags say by dotted keys, of the types that a recipe has."""
    plain = asked.to_dict()
    for section, values in flags.values.items():
        if isinstance(values, Mapping):
            yield from ((f"{section}.{name}", plain[section][name]) for name in values)
        else:
            yield section, plain[section]


def _opened(asked: Recipe, given: Mapping[str, Any]) -> "Folder":
    """Return the folder, opened by what decides which pictures are in which split."""
    from resnet_hub.data.folder import Folder
    from resnet_hub.data.module import open_data

    settings = DataSettings(
        name="Folder",
        root=asked.data.root,
        batch_size=asked.data.batch_size,
        timeout=asked.data.timeout,
        held_out=asked.data.held_out,
        classes=asked.data.classes,
        exif=given.get("data.exif", "apply"),
    )
    data = cast(Folder, open_data(settings, seed=asked.seed))
    data.open()
    return data


def _check_begins(recipe: Recipe) -> None:
    """Refuse what a run would refuse as it begins, before anything of it is written."""
    from resnet_hub.learning.fit import build
    from resnet_hub.learning.targets.class_weights import ClassWeights

    logger = logging.getLogger("resnet_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # the run says the same again
    try:
        data, _ = build(recipe)
        ClassWeights.of(recipe.model, data)
    finally:
        logger.setLevel(level)


def _recipe_name(root: str) -> str:
    name = re.sub(r"[^\w.-]+", "_", expanded(root).resolve().name) or "pictures"
    return f"finetune_{name}.yaml"


def _opening(path: Path, look: "Look", card: "Card", weights: str) -> list[str]:
    """Return a recipe's opening comment."""
    return [
        f"Fine-tune {weights} on the pictures of {look.root}.",
        "",
        f"Net       {card.name}, at {card.preprocess.size} pixels as its weights were made",
        "Source    `resnet-hub finetune`: the comments say why, of these pictures",
        f"Command   resnet-hub fit {shlex.quote(str(path))}",
        "Expect    not measured before it has run; then RUN/model has the score",
    ]


def _write(path: Path, text: str) -> None:
    """Write a recipe where there is none, or the same one."""
    from resnet_hub.weights.store import write_text

    if path.exists():
        if path.is_file() and path.read_bytes() == text.encode():
            return
        raise InvalidSetting(
            f"{path}: is there and says otherwise; train by it (resnet-hub fit "
            f"{shlex.quote(str(path))}), or have another one written (--recipe FILE)"
        )
    write_text(path, text)

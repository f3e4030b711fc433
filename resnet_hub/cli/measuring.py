"""What the commands that measure have in common: which models, on which data, and their answers."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_hub.cli.layers import Layer, read_file, read_flags
from resnet_hub.cli.recipes import check
from resnet_hub.cli.recording import is_checkpoint
from resnet_hub.errors import DataMissing, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded
from resnet_hub.weights.catalog import find_weights, packaged
from resnet_hub.weights.sources import LocalFolder, Published, parse

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from resnet_hub.data.module import DataModule
    from resnet_hub.evaluation.collected import Logits
    from resnet_hub.nets.resnet import ResNet
    from resnet_hub.preprocess import Preprocess
    from resnet_hub.weights.provenance import Score


def read_arguments(
    command: str, arguments: list[str], *, own: Collection[str] = ()
) -> tuple[str, Layer]:
    """Return the one thing that a measuring command names, and its flags.

    Args:
        command: The command, for messages.
        arguments: Without switches.
        own: Flags that this command alone takes, their values as text.

    Raises:
        InvalidSetting: Not one thing, or flags of other sections.
    """
    names, flags = read_models(command, arguments, own=own)
    if len(names) > 1:
        raise InvalidSetting(
            f"{command}: needs one model folder or run (see `resnet-hub {command} --help`)"
        )
    return names[0], flags


def read_models(
    command: str, arguments: list[str], *, own: Collection[str] = ()
) -> tuple[list[str], Layer]:
    """Return what a measuring command names, and its flags.

    Args:
        command: The command, for messages.
        arguments: Without switches.
        own: Flags that this command alone takes, their values as text.

    Raises:
        InvalidSetting: Nothing is named, or flags of other sections.
    """
    flags, names = read_flags(arguments)
    if not names:
        raise InvalidSetting(
            f"{command}: needs one model folder or run (see `resnet-hub {command} --help`)"
        )
    taken = dict.fromkeys(("data", "trainer", *own, "seed"))
    for section in flags.values:
        if section not in taken:
            told = "--data…, --trainer…, " + ", ".join(f"--{name}" for name in list(taken)[2:])
            raise InvalidSetting(f"--{section}: {command} takes {told}")
    return names, flags


def recipe_of(name: str, flags: Layer, *, command: str) -> tuple[Recipe, str | Path]:
    """Return what to score on, and the model folder (a run's own, where a run was named).

    Args:
        name: A model folder, run, checkpoint, or a name of weights.
        flags: What the command line says.
        command: The command, for messages.

    Raises:
        DataMissing: No such folder, or a run without a model yet.
        InvalidSetting: A model folder without a data set to score it on, or flags that cannot be.
    """
    folder = expanded(name)
    if (folder / "recipe.yaml").is_file():
        if not (folder / "model").is_dir():
            raise DataMissing(
                f"{folder}: the run has no model/ yet; finish it by `resnet-hub fit --resume`, or "
                f"`resnet-hub export` what it has and {command} that"
            )
        return _own_recipe(read_file(folder / "recipe.yaml"), flags), folder / "model"
    if is_checkpoint(folder):
        from resnet_hub.learning.saving.checkpoints import read_training_checkpoint

        recipe = read_training_checkpoint(folder).get("recipe")
        return _own_recipe(Layer(recipe if isinstance(recipe, dict) else {}), flags), name
    if "data" not in flags.values:
        _check_named(name)
        raise InvalidSetting(f"{command}: a model needs --data NAME and its --data.root DIR")
    return check(flags), name


def _own_recipe(layer: Layer, flags: Layer) -> Recipe:
    """Return a run's recipe under the flags, but with no trainer options of its own."""
    if "data" in layer.values and _data_name(flags) not in (None, _data_name(layer)):
        del layer.values["data"]  # its settings are for its own data set
    recipe = check(flags.over(layer))
    if "data" in layer.values and recipe.seed != check(layer).seed:
        raise InvalidSetting(
            "--seed: the run's own says which images it held out; with another one it would be "
            "measured on images that it was trained on"
        )
    own = {k: v for k, v in recipe.trainer.items() if k in flags.values.get("trainer", {})}
    return replace(recipe, trainer=own)


def _check_named(name: str) -> None:
    """Refuse what names no model, without fetching one."""
    source = parse(name)
    if isinstance(source, Published) and packaged(source.name) is None:
        find_weights(source.name)
    elif isinstance(source, LocalFolder) and not source.path.is_dir():
        raise DataMissing(f"{name}: no such folder")


def _data_name(layer: Layer) -> Any:
    data = layer.values.get("data")
    return data.get("name") if isinstance(data, dict) else None


def opened(recipe: Recipe, preprocess: "Preprocess") -> "DataModule":
    """Return a recipe's data, opened, as weights with this preprocessing see it.

    Raises:
        ResNetHubError: The data cannot be read.
    """
    from resnet_hub.cli.console import quiet
    from resnet_hub.data.module import open_data

    quiet()
    data = open_data(recipe.data, seed=recipe.seed, preprocess=preprocess)
    data.prepare_data()
    return data.open()


def net_of(model: str | Path) -> "ResNet":
    """Return the net of what :func:`recipe_of` returned.

    Raises:
        ResNetHubError: It cannot be loaded.
    """
    from resnet_hub.learning.export import read_net
    from resnet_hub.nets.resnet import ResNet

    if is_checkpoint(expanded(model)):
        return read_net(model)[0]
    return ResNet.from_pretrained(model)


def measured(
    net: "ResNet",
    data: "DataModule",
    options: Mapping[str, Any],
    *,
    witness: "Callback | None" = None,
) -> "Score":
    """Return a net's score, with nothing but the result left for standard output.

    Raises:
        ResNetHubError: Net, data and trainer options do not go together.
    """
    from resnet_hub.cli import stdout
    from resnet_hub.cli.console import group
    from resnet_hub.evaluation.scoring import score

    with stdout.clear(), group():
        return score(net, data, trainer=options, witness=witness)


def validated(net: "ResNet", data: "DataModule", options: Mapping[str, Any]) -> "Logits":
    """Return a net's logits for its validation split, on one device: this process alone is left."""
    from resnet_hub.cli import stdout
    from resnet_hub.evaluation.cached import logits

    kept = {name: options[name] for name in ("accelerator", "precision") if name in options}
    with stdout.clear():
        return logits(net, data, split="val", trainer=kept)

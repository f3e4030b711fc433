"""What ``resnet-hub test`` writes into the folder of a model: its score, its temperature."""

from pathlib import Path
from typing import TYPE_CHECKING

from resnet_hub.errors import InvalidSetting, ResNetHubError
from resnet_hub.paths import expanded
from resnet_hub.weights.sources import LocalFolder, parse

if TYPE_CHECKING:
    from resnet_hub.evaluation.summary import Temperature
    from resnet_hub.weights.provenance import Score


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is a run's checkpoint."""
    # By the file's name: what knows it imports Lightning, and refusals come before that.
    return (folder / "manifest.json").is_file()


def check_calibrated(model: str | Path, *, keep: bool) -> None:
    """Refuse a temperature that could not be written, before it costs anything.

    Raises:
        InvalidSetting: It could not.
    """
    if not keep:
        raise InvalidSetting(
            "--calibrate: writes into the folder, which --no-record leaves as it is"
        )
    if (obstacle := _no_folder(model)) is not None:
        raise InvalidSetting(f"--calibrate: {obstacle}; `resnet-hub export` or save it into one")


def calibrate(model: str | Path, temperature: "Temperature | None") -> None:
    """Write a temperature into a folder that :func:`check_calibrated` let through.

    Raises:
        InvalidSetting: There is none.
        ResNetHubError: The disk refused.
    """
    from resnet_hub.evaluation import receipts

    if temperature is None:
        raise InvalidSetting("--calibrate: one image is too few for a temperature")
    receipts.calibrate(expanded(model), temperature.value)


def _no_folder(model: str | Path) -> str | None:
    """Return why nothing can be written into what was scored, if so."""
    from resnet_hub.weights import cache

    if is_checkpoint(expanded(model)):
        return "a checkpoint has no card"
    source = parse(model)
    if not isinstance(source, LocalFolder) or source.path.is_relative_to(cache.root()):
        return "the model is no folder of your own"
    return None


def record(model: str | Path, score: "Score") -> str | None:
    """Write a score into a folder of the user's own; return what kept it from that, if anything."""
    from resnet_hub.evaluation import receipts

    if (obstacle := _no_folder(model)) is not None:
        return obstacle
    if score.receipt is None:
        return "trainer.limit_test_batches left images out"
    try:
        receipts.record(expanded(model), score)
    except ResNetHubError as error:  # a read-only folder, perhaps; the score stands all the same
        return str(error)
    return None

"""``resnet-hub fit --dry-run``: what a run would be, printed."""

import json
from dataclasses import asdict

from resnet_hub.cli import stdout
from resnet_hub.cli.console import group, is_first, quiet, say
from resnet_hub.learning.preview import TIMED, Preview, preview
from resnet_hub.learning.processes.stopping import Interrupted
from resnet_hub.learning.reporting.pace import duration
from resnet_hub.learning.settings import Recipe
from resnet_hub.learning.targets.class_weights import worded


def dry_run(recipe: Recipe, *, as_json: bool) -> int:
    """Print what a recipe's run would be, and return the exit code; no run is made.

    Raises:
        ResNetHubError: The run could not begin.
    """
    quiet()
    try:
        with stdout.clear(), group():
            found = preview(recipe)
    except Interrupted as stop:
        return stop.code
    if is_first():
        say(json.dumps(asdict(found), allow_nan=False)) if as_json else _show(found)
    return 0


def _show(found: Preview) -> None:
    width = max(map(len, (lines := _lines(found))))
    for name, text in lines.items():
        say(f"{name:{width}}  {text}")


def _lines(found: Preview) -> dict[str, str]:
    images = ", ".join(f"{name} {count:,}" for name, count in found.images.items())
    lines = {
        "net": f"{found.net}: {found.parameters:,} parameters, {found.multiply_adds:,} "
        f"multiply-adds an image of {found.size}×{found.size}",
        "images": images,
        "batch": f"{found.batch_size:,} a device × {found.devices} (devices) × "
        f"{found.accumulated} (accumulated) = {found.step_images:,} a step",
        "learning rate": f"{found.lr:g} in force, at the schedule's factor 1",
        "steps": f"{found.steps_per_epoch:,} an epoch × {found.epochs:g} = {found.steps:,} in all, "
        f"on {found.trained_images:,} images",
    }
    if found.class_weights:
        lines["class weights"] = worded(found.class_weights)
    for own in found.groups:
        rate = "" if own.lr == found.lr else f", learning rate {own.lr:g}"
        lines[f"group {own.name}"] = (
            f"weight decay {own.weight_decay:g}{rate}: {own.parameters:,} parameters in "
            f"{own.tensors:,} tensors"
        )
    if found.frozen:
        lines["frozen"] = f"{found.frozen:,} of these parameters in the first epoch"
    lines["compute"] = f"{found.flops:.3g} FLOPs (3 × 2 × multiply-adds × images)"
    lines["time"] = (
        f"about {duration(found.seconds)} on {found.device}: {found.steps:,} steps of "
        f"{found.step_seconds:.3g} s, {found.validations:,} validations and the test at their pace"
    )
    lines["note"] = (
        f"no run was begun; the time is a guess from {TIMED} steps after a first, no promise"
    )
    return lines

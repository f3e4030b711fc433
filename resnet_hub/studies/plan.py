"""A study's runs: which there are, where they lie, and what is still to be trained. Torch-free."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.studies.members import Member, differences

ASKED = "study.json"
"""What a study's folder says of what was asked."""

State = Literal["finished", "stopped", "missing"]


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study.

    Attributes:
        member: Which net.
        seed: Of the run.
        folder: Where it lies, or will.
        recipe: What it is trained by.
        steps: Optimizer steps of the member's packaged recipe, the paper's length.
        command: What trains it, after ``resnet-hub``.
    """

    member: Member
    seed: int
    folder: Path
    recipe: Recipe
    steps: int
    command: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def state(self) -> State:
        """Return ``finished`` (it holds a model), ``stopped`` (a checkpoint) or ``missing``."""
        if (self.folder / "model").is_dir():
            return "finished"
        return "stopped" if any((self.folder / "checkpoints").glob("step-*")) else "missing"

    def next_command(self) -> tuple[str, ...]:
        """Return what trains it from where it stands, after ``resnet-hub``."""
        if self.state() == "stopped":
            return ("fit", "--resume", str(self.folder))
        return self.command

    def check(self, found: Recipe) -> None:
        """Check that the run that lies in the folder is the one that was asked for.

        Args:
            found: Its recipe.

        Raises:
            InvalidSetting: It has other numbers.
        """
        if changed := differences(self.recipe, found):
            listed = "; ".join(changed[:3]) + ("; …" if len(changed) > 3 else "")
            raise InvalidSetting(
                f"{self.folder}: a run by another recipe lies there ({listed}); ask for what it "
                "was trained by, or for another --out"
            )


def describe(runs: Sequence[PlannedRun]) -> list[dict[str, object]]:
    """Return the runs as JSON types: name, seed, state and the command that comes next."""
    return [
        {
            "name": run.name,
            "label": run.member.label,
            "seed": run.seed,
            "folder": os.fspath(run.folder),
            "state": run.state(),
            "steps": run.recipe.trainer["max_steps"],
            "command": ["resnet-hub", *run.next_command()],
        }
        for run in runs
    ]


def asked_before(out: Path, study: str) -> list[str] | None:
    """Return the arguments that a study's folder was asked for with, or ``None`` of a new one.

    Raises:
        InvalidSetting: It is another study's folder.
        CorruptFile: Its study.json cannot be read.
    """
    path = out / ASKED
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (name := content["study"]) != study:
            raise InvalidSetting(f"--out {out}: holds a study of {name}; choose another folder")
        arguments = content["arguments"]
        if not all(isinstance(argument, str) for argument in arguments):
            raise TypeError("arguments that are no text")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CorruptFile(f"{path}: not what a study asks ({error}); move it away") from error
    return list(arguments)


def to_json(content: object) -> str:
    """Return JSON as a study's files hold it."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

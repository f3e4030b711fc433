"""Studies that train their nets: which runs are asked for, training them, what came of it."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_hub.cli import stdout
from resnet_hub.cli.layers import Layer, flag_values, read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.errors import DataMissing, InvalidSetting, printable
from resnet_hub.paths import expanded
from resnet_hub.studies.designs import DESIGNS, Study
from resnet_hub.studies.members import Member, as_flags, shortened
from resnet_hub.studies.plan import PlannedRun, asked_before, describe

HELP = """usage: resnet-hub study {name} [--depths {depths}] [--seeds 0] [--steps N]
                        [--out studies/{name}] [--key value ...] [--dry-run | --draw] [--json]

{title} ({paper}).

Trains each net by this package's recipe, in a run folder of its own under --out, and draws
figure.png and figure.svg, finding.json and README.md from the runs. A run that is finished is never
trained again, one that was stopped goes on: the same command goes on with the study.

--depths       layers, of {known}
--seeds        a run each; pictures show their spread
--steps N      optimizer steps of every run instead of the paper's, the schedule in proportion
--key value    any key of a recipe, for every run: --data.root ~/data --trainer.precision bf16-mixed
--dry-run      tell which runs there would be, which are finished, and the command of each
--draw         train nothing; draw and find from the runs that are there (alone: those asked before)
--json         print one object
"""

_SWITCHES = ("--dry-run", "--draw", "--json")
_OWN = ("depths", "seeds", "steps", "out")
_FIXED = {
    "seed": "--seeds",
    "net.name": "--depths",
    "net.weights": "no weights: every run begins at random",
    "data.held_out": "0: the last step counts, and nothing is chosen",
    "trainer.max_steps": "--steps",
    "trainer.max_epochs": "--steps",
}
"""What flags cannot set, and what says it instead."""


def study(name: str, arguments: list[str]) -> int:
    """Run one study and return its exit code."""
    design = DESIGNS[name]
    if {"-h", "--help"} & set(arguments):
        print(_help(design))
        return 0
    dry, draw, as_json = (switch in arguments for switch in _SWITCHES)
    if dry and draw:
        raise InvalidSetting("--draw: goes without --dry-run, which draws nothing")
    asked = [argument for argument in arguments if argument not in _SWITCHES]
    own, flags = split_flags(asked, _OWN)
    out = expanded(own.get("out", f"studies/{name}"))
    before = asked_before(out, name)
    if draw and before and not flags and set(own) <= {"out"}:  # nothing else than what is there
        asked = before
        own, flags = split_flags(asked, _OWN)
    members = design.members(numbers(own, "depths") or design.depths)
    runs = plan(members, own, flags, out)
    if dry:
        tell(runs, as_json=as_json)
        return 0
    if draw and all(run.state() == "missing" for run in runs):
        raise DataMissing(f"--draw: {out} holds no run of this study yet")
    return _study(design, runs, out, asked, trains=not draw, as_json=as_json)


def _study(
    design: Study,
    runs: Sequence[PlannedRun],
    out: Path,
    asked: Sequence[str],
    *,
    trains: bool,
    as_json: bool,
) -> int:
    """Train what is not finished, unless it was stopped conclude, and return the exit code."""
    from resnet_hub.studies.conclusion import conclude, write_asked
    from resnet_hub.studies.folder import check_folder

    check_folder(out, design.name)
    command = shlex.join(["resnet-hub", "study", design.name, *asked])
    write_asked(design, runs, out, asked)
    code = train_all(runs, as_json=as_json) if trains else 0
    if code >= 128 or all(run.state() == "missing" for run in runs):
        print(f"the study is not finished; go on with: {command}", file=sys.stderr)
        return code
    finding = conclude(design, runs, out, command=command)
    _show(finding, out, as_json=as_json)
    return code


def _show(finding: Mapping[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        stdout.show(json.dumps(finding, allow_nan=False))
        return
    for line in (*finding["sentences"], *finding["limits"], f"figure and finding: {out}"):
        stdout.show(printable(line))


def train_all(runs: Sequence[PlannedRun], *, as_json: bool) -> int:
    """Train the runs that are not finished; see :func:`~resnet_hub.studies.training.train`."""
    from resnet_hub.studies.training import train

    lines = sys.stderr if as_json else sys.stdout  # standard output is for the object alone
    return train(
        runs,
        lambda line: print(line, file=lines, flush=True),
        output=2 if as_json else None,
    )


def split_flags(arguments: Sequence[str], own: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return a command's own flags by name, and the others, which are a recipe's.

    Raises:
        InvalidSetting: A flag without a value, or what is no flag.
    """
    flags, others = flag_values(arguments)
    if others:
        raise InvalidSetting(f"{others[0]!r}: only flags are taken here, --key value")
    taken = {name: text for name, text in flags if name in own}
    return taken, [f"--{name}={text}" for name, text in flags if name not in own]


def numbers(own: Mapping[str, str], name: str) -> tuple[int, ...]:
    """Return the whole numbers of a flag, such as ``20,56``; none where it is not given.

    Raises:
        InvalidSetting: It holds something else, or one twice.
    """
    text = own.get(name)
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise InvalidSetting(f"--{name}: {text!r} is no list of whole numbers, such as 20,56")
    return tuple(map(int, parts))


def seeds_of(own: Mapping[str, str]) -> tuple[int, ...]:
    """Return the seeds that are asked for; see :func:`numbers`."""
    return numbers(own, "seeds") or (0,)


def plan(
    members: Sequence[Member], own: Mapping[str, str], flags: Sequence[str], out: Path
) -> list[PlannedRun]:
    """Return the runs of some members, each checked against what lies in its folder.

    Args:
        members: Which nets.
        own: ``seeds`` and ``steps``, as text.
        flags: A recipe's, for every run.
        out: The study's folder.

    Raises:
        ResNetHubError: A flag is refused, or another run lies where one of these belongs.
    """
    seeds = seeds_of(own)
    steps = numbers(own, "steps")
    if len(steps) > 1 or 0 in steps:
        raise InvalidSetting(f"--steps: {own['steps']!r} is no number of optimizer steps")
    _check_flags(members, flags)
    runs = [
        _planned(member, seed, steps, flags, out / member.folder(seed))
        for member in members
        for seed in seeds
    ]
    for run in runs:
        if run.state() != "missing":
            run.check(read_recipe([str(run.folder / "recipe.yaml")], Layer()))
    return runs


def _planned(
    member: Member, seed: int, steps: Sequence[int], flags: Sequence[str], folder: Path
) -> PlannedRun:
    settings = {"seed": seed, **member.settings}
    whole = read_recipe([member.recipe], read_flags(as_flags(settings))[0])
    length = shortened(whole, steps[0]) if steps else {}
    given = [*as_flags({**settings, **length}), *flags]
    recipe = read_recipe([member.recipe], read_flags(given)[0])
    command = ("fit", member.recipe, *given, f"--out={folder}")
    return PlannedRun(member, seed, folder, recipe, whole.trainer["max_steps"], command)


def _check_flags(members: Sequence[Member], flags: Sequence[str]) -> None:
    given = [flag[2:].partition("=")[0] for flag in flags]
    given = ["net.name" if key == "net" else key for key in given]
    for key in given:
        if key in _FIXED:
            raise InvalidSetting(f"--{key}: a study sets it; by {_FIXED[key]}")
        if any(key in member.settings for member in members):
            raise InvalidSetting(f"--{key}: it is what this study compares; leave it out")


def tell(runs: Sequence[PlannedRun], *, as_json: bool) -> None:
    """Print which runs there are, how far each is, and the command that comes next."""
    found = describe(runs)
    if as_json:
        stdout.show(json.dumps({"runs": found}))
        return
    for run in runs:
        stdout.show(f"{run.state():8}  {run.name}")
        if run.state() != "finished":
            stdout.show(f"          {shlex.join(['resnet-hub', *run.next_command()])}")


def _help(design: Study) -> str:
    return HELP.format(
        name=design.name,
        title=design.title,
        paper=design.paper,
        depths=",".join(map(str, design.depths)),
        known=", ".join(map(str, design.known)),
    )

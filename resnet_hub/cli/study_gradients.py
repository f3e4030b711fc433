"""``resnet-hub study gradients``: gradients and activations layer by layer, along a training."""

import json
import shlex
import sys
from dataclasses import replace

from resnet_hub.cli import stdout
from resnet_hub.cli.study_runs import numbers, plan, split_flags, train_all
from resnet_hub.errors import DataMissing, InvalidSetting, printable
from resnet_hub.paths import expanded
from resnet_hub.studies.designs import DESIGNS
from resnet_hub.studies.plan import asked_before, describe

HELP = """usage: resnet-hub study gradients [--depths 56] [--seeds 0] [--steps 1000]
                        [--out studies/gradients] [--key value ...] [--dry-run | --draw] [--json]

How strong gradients and activations are, layer by layer: in plain nets and residual nets of the
same depth, before training, at steps that double, and after the last step.

Trains each net by this package's recipe, in a run folder of its own under --out, and measures it on
the same training images each time. Writes figure.png, figure.svg, gradients.csv, finding.json and
README.md. A run that is finished is never trained again, one that was stopped goes on.

--depths       layers, of {known}
--seeds        a run each; pictures show their spread
--steps N      optimizer steps of every run, the paper's schedule in proportion
--key value    any key of a recipe, for every run: --data.root ~/data
--dry-run      tell which runs there would be, which are finished, and the command of each
--draw         train nothing; draw and find from the runs that are there (alone: those asked before)
--json         print one object
"""

_SWITCHES = ("--dry-run", "--draw", "--json")
_OWN = ("depths", "seeds", "steps", "out")
_DESIGN = replace(DESIGNS["degradation"], name="gradients")  # the same nets
_RECORDER = [{"class_path": "resnet_hub.studies.gradients.Recorder"}]


def study(name: str, arguments: list[str]) -> int:
    """Run ``resnet-hub study gradients`` and return its exit code."""
    if {"-h", "--help"} & set(arguments):
        print(HELP.format(known=", ".join(map(str, _DESIGN.known))))
        return 0
    dry, draw, as_json = (switch in arguments for switch in _SWITCHES)
    if dry and draw:
        raise InvalidSetting("--draw: goes without --dry-run, which draws nothing")
    asked = [argument for argument in arguments if argument not in _SWITCHES]
    own, flags = split_flags(asked, _OWN)
    if any(flag.startswith("--callbacks") for flag in flags):
        raise InvalidSetting("--callbacks: this study sets it, to measure")
    out = expanded(own.get("out", f"studies/{name}"))
    before = asked_before(out, name) if draw and not flags and set(own) <= {"out"} else None
    if before:  # nothing else than what is there
        asked = before
        own, flags = split_flags(asked, _OWN)
    members = _DESIGN.members(numbers(own, "depths") or (56,))
    own = {"steps": "1000", **own}
    runs = plan(members, own, [*flags, f"--callbacks={json.dumps(_RECORDER)}"], out)
    if dry:
        found = describe(runs)
        lines = [json.dumps({"runs": found})] if as_json else [_line(run) for run in found]
        for line in lines:
            stdout.show(line)
        return 0

    from resnet_hub.studies.folder import check_folder
    from resnet_hub.studies.gradient_pages import conclude, read_trace

    check_folder(out, name)
    # What cannot be told in the end is refused before hours of training.
    measured = [read_trace(run).rows for run in runs]
    if draw and not any(measured):
        raise DataMissing(
            f"--draw: {out} holds no run of those asked for; give the --depths, --seeds "
            "and --steps of what is there"
        )
    code = 0 if draw else train_all(runs, as_json=as_json)
    if code >= 128 or not any(read_trace(run).rows for run in runs):
        command = shlex.join(["resnet-hub", "study", name, *asked])
        print(f"the study is not finished; go on with: {command}", file=sys.stderr)
        return code
    finding = conclude(runs, out, asked)
    if as_json:
        stdout.show(json.dumps(finding, allow_nan=False))
        return code
    for line in (*finding["sentences"], *finding["limits"], f"figure and finding: {out}"):
        stdout.show(printable(line))
    return code


def _line(run: dict[str, object]) -> str:
    words = run["command"]
    command = shlex.join(map(str, words)) if isinstance(words, list) else ""
    return f"{run['state']:8}  {run['name']}  {command}"

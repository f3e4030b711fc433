"""``resnet-hub push`` and ``verify``: model folders for others, and checked again."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from resnet_hub.cli.arguments import Arguments
from resnet_hub.cli.measuring import measured, opened, read_arguments, recipe_of
from resnet_hub.errors import InvalidSetting, printable
from resnet_hub.learning.settings import Recipe
from resnet_hub.paths import expanded

if TYPE_CHECKING:
    from resnet_hub.evaluation.receipts import Comparison
    from resnet_hub.weights.card import Card
    from resnet_hub.weights.provenance import Score

VERIFY_HELP = """usage: resnet-hub verify FOLDER|RUN [--data NAME] [--data.KEY X] [--trainer.KEY X]
                         [--json]

Checks a model folder: its card, the weights' SHA-256, that they fit, the README. With --data, and
always for a run, it also measures the recorded score again, at its precision, and says

  same bits                  every logit is the recorded one
  same answers, other bits   every answer is: other hardware, versions or batch sizes may do that
  differs                    what does; the exit code is then 1

  resnet-hub verify ./model
  resnet-hub verify ./model --data Cifar10 --data.root ~/data --json
"""


_README = {
    "own": "",
    "foreign": "; README.md is not this package's, and was not compared",
    "contradicts": "; README.md says other than config.json, which is what counts",
}


def push_command(arguments: list[str]) -> int:
    """Run ``resnet-hub push``."""
    parser = Arguments(
        "push",
        "Upload a model folder to a repository of the Hugging Face Hub, in one commit.",
        epilog="The token is HF_TOKEN, or that of `hf auth login`.",
    )
    parser.add_argument("folder", help="a model folder: with licence, score and recipe")
    parser.add_argument("repo", help="org/name; made if it is not there")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--revision", help="branch to commit to; made if it is not there")
    parser.add_argument("--pr", action="store_true", help="open a pull request instead")
    parser.add_argument("--licence", help="SPDX name, for a folder whose card has none")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    chosen = parser.parse_args(arguments)

    from resnet_hub.weights.huggingface import check_endpoint
    from resnet_hub.weights.publish import push

    check_endpoint()
    _quiet_client()
    done = push(
        chosen.folder,
        chosen.repo,
        private=chosen.private,
        revision=chosen.revision,
        pull_request=chosen.pr,
        licence=chosen.licence,
    )
    if chosen.json:
        print(json.dumps(asdict(done), allow_nan=False))
    elif done.changed:
        print(printable(f"{done.repo}: {done.url}"))
    else:
        print(printable(f"{done.repo}: nothing to push, {done.commit[:12]} holds the same"))
    return 0


def _quiet_client() -> None:
    """Let the client keep to itself what a line of ours says, and its bars from a file."""
    try:
        from huggingface_hub import utils
    except ImportError:  # push says how to get it
        return
    client = cast(Any, utils)
    client.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        client.disable_progress_bars()


def verify_command(arguments: list[str]) -> int:
    """Run ``resnet-hub verify``."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(VERIFY_HELP)
        return 0
    as_json = "--json" in arguments
    name, flags = read_arguments("verify", [a for a in arguments if a != "--json"])
    measures = "data" in flags.values or (expanded(name) / "recipe.yaml").is_file()
    recipe, model = recipe_of(name, flags, command="verify") if measures else (None, name)

    from resnet_hub.weights.folder import check_contents, read_readme
    from resnet_hub.weights.hub import read_model
    from resnet_hub.weights.readme import standing

    card, tensors, path = read_model(model)
    check_contents(card, tensors, path)
    facts: dict[str, Any] = {
        "model": str(model),
        "sha256": card.provenance.sha256,
        "readme": standing(read_readme(path.parent), card),
    }
    if recipe is None:
        receipts = sum(score.receipt is not None for score in card.provenance.scores)
        claims = len(card.provenance.scores) - receipts
        facts |= {"verdict": "sound", "receipts": receipts, "claims": claims}
        line = f"sound, SHA-256 {card.provenance.sha256}, scores with a receipt: {receipts}"
        if claims:
            line += f", without: {claims}"
    else:
        from resnet_hub.cli.console import is_first

        comparison = _measured_again(recipe, model, card)
        if not is_first():
            return 0
        facts |= asdict(comparison)
        line = _line(comparison)
    line += _README[facts["readme"]]
    print(json.dumps(facts, allow_nan=False) if as_json else printable(f"{model}: {line}"))
    return 1 if facts["verdict"] == "differs" else 0


def _measured_again(recipe: Recipe, model: str | Path, card: "Card") -> "Comparison":
    from resnet_hub.evaluation.receipts import compare, recorded_scores
    from resnet_hub.nets.resnet import ResNet

    data, options, known = opened(recipe, card.preprocess), recipe.trainer, card.provenance.scores
    first = recorded_scores(known, data.measured)[0]
    if first.receipt is not None and "precision" not in options:
        options = {"precision": first.receipt.precision, **options}
    found = measured(ResNet.from_pretrained(model), data, options)
    if found.receipt is None:
        raise InvalidSetting("verify: measures all images; leave trainer.limit_test_batches out")
    return compare(known, found)


def _line(comparison: "Comparison") -> str:
    found = comparison.found
    listed = "".join(f"; {difference}" for difference in comparison.differences)
    precision = found.receipt.precision if found.receipt else ""
    what = f"{found.data}, n = {found.n:,}, top-1 {found.top1:.2%}, {precision}"
    others = ", ".join(_named(score) for score in comparison.unmeasured)
    return f"{comparison.verdict}{listed} ({what})" + (f"; not measured: {others}" * bool(others))


def _named(score: "Score") -> str:
    place = str(score.receipt) if score.receipt else "without a receipt"
    return f"{score.data} (top-1 {score.top1:.2%}, n = {score.n:,}, {place})"

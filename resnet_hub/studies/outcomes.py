"""What came of a study's runs: their curves, and the errors that they ended with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_hub.curves import Points, read_metrics, series
from resnet_hub.learning.settings import Recipe
from resnet_hub.metrics import wilson
from resnet_hub.studies.plan import PlannedRun
from resnet_hub.weights.card import read_card
from resnet_hub.weights.provenance import Provenance, Score


@dataclass(frozen=True)
class Error:
    """How often a net was wrong.

    Attributes:
        share: Fraction of the images, top-1; of several runs their mean.
        n: Images.
    """

    share: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95% interval: what other images would give, the net being as it is."""
        return wilson(round(self.share * self.n), self.n)


@dataclass(frozen=True)
class Outcome:
    """One run, as far as it came.

    Attributes:
        run: Which.
        train: Optimizer steps, and the top-1 error over the epoch that ended there: of augmented
            images, while the weights moved; fractions.
        test: Optimizer steps, and the top-1 error on the test split.
        final_train: The last of ``train``; ``None`` of a run that is not finished.
        final_test: What the exported net was measured at; ``None`` of a run that is not finished.
        score: That measurement, with its data.
        provenance: Of the exported net.
    """

    run: PlannedRun
    train: Points
    test: Points
    final_train: Error | None = None
    final_test: Error | None = None
    score: Score | None = None
    provenance: Provenance | None = None

    @property
    def step(self) -> int:
        """The last step that has a value."""
        return int(max((*self.train[0], *self.test[0]), default=0))


def read_outcome(run: PlannedRun) -> Outcome:
    """Read a run's curves and, where it is finished, its final errors.

    Raises:
        CorruptFile: Its metrics.csv or its card cannot be read.
    """
    metrics = run.folder / "metrics.csv"
    rows = read_metrics(metrics) if metrics.is_file() else []
    train, test = (_errors(rows, f"{split}/top1") for split in ("train", "test"))
    if run.state() != "finished":
        return Outcome(run, train, test)
    provenance = read_card(run.folder / "model").provenance
    score = provenance.scores[0]
    final = Error(1 - score.top1, score.n)
    steps = run.recipe.trainer["max_steps"]
    if not test[0] or test[0][-1] < steps:  # it ended within an epoch, which no test follows
        test = ([*test[0], float(steps)], [*test[1], final.share])
    return Outcome(run, train, test, _last_train(train, run.recipe), final, score, provenance)


def _errors(rows: Sequence[dict[str, float]], name: str) -> Points:
    steps, values = series(list(rows), name, by="step")
    return steps, [1 - value for value in values]


def _last_train(train: Points, recipe: Recipe) -> Error | None:
    steps, errors = train
    if not steps:  # of mixed targets there is none
        return None
    taken = steps[-1] - (steps[-2] if len(steps) > 1 else 0)
    given = (recipe.trainer.get(name) or 1 for name in ("devices", "accumulate_grad_batches"))
    factors = [value for value in given if isinstance(value, int) and value > 0]
    if len(factors) < 2:
        return None
    return Error(errors[-1], int(taken) * recipe.data.batch_size * math.prod(factors))


def mean_error(errors: Sequence[Error]) -> Error:
    """Return the mean of several runs' errors on as many images."""
    return Error(sum(error.share for error in errors) / len(errors), errors[0].n)


def deviation(shares: Sequence[float]) -> float | None:
    """Return the standard deviation over seeds, of a sample (n − 1); ``None`` of a single run."""
    if len(shares) < 2:
        return None
    mean = sum(shares) / len(shares)
    return math.sqrt(sum((share - mean) ** 2 for share in shares) / (len(shares) - 1))


def to_dict(outcome: Outcome, out: Path) -> dict[str, Any]:
    """Return a run's errors as JSON types; shares are fractions.

    Args:
        outcome: The run.
        out: The study's folder, which the run's is told from.
    """
    run, score = outcome.run, outcome.score
    found: dict[str, Any] = {
        "seed": run.seed,
        "folder": str(run.folder.relative_to(out)),
        "state": run.state(),
        "step": outcome.step,
    }
    for name, error in (("train", outcome.final_train), ("test", outcome.final_test)):
        if error is not None:
            found[name] = {"error": error.share, "n": error.n, "interval": list(error.interval)}
    if score is not None:
        found["data"] = score.data
    return found

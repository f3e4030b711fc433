"""A paper's table beside ours: which models count, their errors, and a verdict on each row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resnet_hub.errors import CorruptFile, ResNetHubError
from resnet_hub.learning.settings import Recipe
from resnet_hub.studies.members import Member, at_length, differences
from resnet_hub.studies.outcomes import deviation
from resnet_hub.studies.published import FAILED, PaperTable, Published
from resnet_hub.weights.card import CARD_NAME, WEIGHTS_NAME, Card, read_card
from resnet_hub.weights.provenance import Score

Verdict = Literal["within", "better", "worse", "unmeasured", "none"]

Measure = Callable[["Model", str], Score]
"""What a model scores by a protocol of :class:`~.published.Published`."""

_IMAGENET_IMAGES = 50_000
_UNCOUNTED = ("seed", "trainer.precision")  # what runs of one row may differ by


@dataclass(frozen=True)
class Model:
    """A model folder that was found.

    Attributes:
        folder: Where.
        card: What it says of itself.
    """

    folder: Path
    card: Card


@dataclass(frozen=True)
class Ours:
    """What was measured here for a row.

    Attributes:
        errors: Top-1 errors in percent, one a run, of the last step.
        n: Images.
        data: What they were measured on.
        folders: The models.
        seeds: Of the runs that say theirs.
    """

    errors: tuple[float, ...]
    n: int
    data: str
    folders: tuple[str, ...]
    seeds: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """Over the runs."""
        return sum(self.errors) / len(self.errors)

    @property
    def std(self) -> float | None:
        """Over the runs; ``None`` of one."""
        return deviation(self.errors)


@dataclass(frozen=True)
class ReproducedRow:
    """A paper's row beside ours.

    Attributes:
        published: What the paper says.
        band: Percent, between which ours is ``within``; ``None`` where the paper says "fail".
        ours: What was measured; ``None`` where nothing was.
        verdict: ``none`` where ours are no figures to judge the paper's by.
        notes: Why there is no verdict, and which models of this net do not count.
    """

    published: Published
    band: tuple[float, float] | None
    ours: Ours | None
    verdict: Verdict
    notes: tuple[str, ...] = field(default=())


def find_models(roots: Iterable[Path]) -> tuple[list[Model], list[str]]:
    """Return the model folders below some folders, each once, and what could not be read."""
    found: dict[str, Model] = {}
    unread = []
    for root in roots:
        for path in sorted(root.rglob(CARD_NAME)):
            if not (path.parent / WEIGHTS_NAME).is_file():
                continue
            try:
                model = Model(path.parent, read_card(path.parent))
            except CorruptFile as error:
                unread.append(str(error))
            else:  # a copy has the same weights
                found.setdefault(model.card.provenance.sha256, model)
    return list(found.values()), unread


def reproduce(
    table: PaperTable,
    recipes: Mapping[Member, Recipe],
    models: Sequence[Model],
    *,
    measure: Measure | None = None,
) -> list[ReproducedRow]:
    """Return a table's rows beside what the models say.

    Args:
        table: The paper's.
        recipes: What trains each member of its rows, at the paper's length.
        models: See :func:`find_models`.
        measure: Measures the models of ImageNet's rows; ``None``: what their cards say counts.
    """
    rows = []
    for row in table.rows:
        if row.member is not None:
            ours, judged, notes = _trained(row, recipes[row.member], models)
        elif row.architecture is not None:
            ours, judged, notes = _weights(row, models, measure)
        else:
            ours, judged, notes = None, False, []
        band = _band(row, table.tolerance)
        verdict: Verdict = "unmeasured"
        if ours is not None:
            verdict = _verdict(ours.mean, band) if judged else "none"
        rows.append(ReproducedRow(row, band, ours, verdict, tuple(notes)))
    return rows


def _trained(
    row: Published, recipe: Recipe, models: Sequence[Model]
) -> tuple[Ours | None, bool, list[str]]:
    """Return what a row's recipe came to here, whether that judges the paper, and notes."""
    counting: list[tuple[Model, Score]] = []
    marked: dict[str, list[tuple[Model, Score]]] = {}
    notes = []
    for model in models:
        if (found := _recipe_of(model)) is None or found.net != recipe.net:
            continue
        steps = found.trainer.get("max_steps", -1)
        scores = model.card.provenance.scores
        if not scores or not isinstance(steps, int) or steps < 1:
            continue
        other = differences(at_length(recipe, steps), found, ignore=_UNCOUNTED)
        if other:
            notes.append(f"{model.folder} does not count ({other[0]})")
            continue
        reasons = []
        if steps != (whole := recipe.trainer["max_steps"]):
            reasons.append(f"{steps:,} of {whole:,} steps")
        if scores[0].data != row.data:
            reasons.append(f"measured on {scores[0].data}")
        if reasons:
            marked.setdefault("; ".join(reasons), []).append((model, scores[0]))
        else:
            counting.append((model, scores[0]))
    if counting:
        notes += [f"{len(own)} more: {why}" for why, own in marked.items()]
        return _ours(counting), True, notes
    if not marked:
        return None, False, notes
    # Of what cannot judge the paper, the longest is shown.
    why, shown = max(marked.items(), key=lambda item: _steps(item[1][0][0]))
    return _ours(shown), False, [f"no verdict: {why}", *notes]


def _weights(
    row: Published, models: Sequence[Model], measure: Measure | None
) -> tuple[Ours | None, bool, list[str]]:
    """Return a net's score by the row's protocol: as measured now, or as its card has it."""
    notes: list[str] = []
    for model in models:
        if model.card.architecture != row.architecture:
            continue
        if measure is not None:
            score = measure(model, row.protocol)
            if (score.data, score.n) == (row.data, _IMAGENET_IMAGES):
                return _ours([(model, score)]), True, notes
            why = f"no verdict: measured on {score.n:,} images of {score.data}"
            return _ours([(model, score)]), False, [*notes, why]
        for score in model.card.provenance.scores:
            if score.data != row.data or score.receipt is None:
                continue
            if (protocol := protocol_of(score)) == row.protocol:
                return _ours([(model, score)]), True, notes
            notes.append(f"{model.folder} was measured by {protocol}: {1 - score.top1:.2%}")
    return None, False, notes


def protocol_of(score: Score) -> str:
    """Return how a card's score was measured, as tables say it: cards hold those of one crop."""
    receipt = score.receipt
    return "" if receipt is None else f"1-crop {receipt.preprocess.size}"


def _recipe_of(model: Model) -> Recipe | None:
    content = model.card.provenance.recipe
    try:
        return None if content is None else Recipe.from_dict(content)
    except ResNetHubError:  # of another version's keys
        return None


def _steps(model: Model) -> int:
    recipe = model.card.provenance.recipe or {}
    return int(recipe["trainer"]["max_steps"])


def _ours(found: Sequence[tuple[Model, Score]]) -> Ours:
    scores = [score for _, score in found]
    return Ours(
        tuple(100 * (1 - score.top1) for score in scores),
        scores[0].n,
        scores[0].data,
        tuple(str(model.folder) for model, _ in found),
        tuple(seed for m, _ in found if (seed := m.card.provenance.seed) is not None),
    )


def _band(row: Published, tolerance: float) -> tuple[float, float] | None:
    if row.error is None:
        return None
    half = tolerance if row.std is None else 2 * row.std
    return row.error - half, row.error + half


def _verdict(error: float, band: tuple[float, float] | None) -> Verdict:
    if band is None:  # the paper's net failed; so does ours, or it is better
        return "within" if error > FAILED else "better"
    low, high = band
    return "better" if error < low else "worse" if error > high else "within"


def to_dict(row: ReproducedRow) -> dict[str, Any]:
    """Return a row as JSON types; errors are percent."""
    ours = row.ours
    return {
        "label": row.published.label,
        "paper": {
            "error": row.published.error,
            "std": row.published.std,
            "top5_error": row.published.top5,
            "remark": row.published.remark,
            "protocol": row.published.protocol,
            "data": row.published.data,
        },
        "band": None if row.band is None else list(row.band),
        "ours": None
        if ours is None
        else {
            "error": ours.mean,
            "std": ours.std,
            "runs": len(ours.errors),
            "n": ours.n,
            "data": ours.data,
            "folders": list(ours.folders),
        },
        "verdict": row.verdict,
        "notes": list(row.notes),
    }

"""Scores written into a card, and measured again against it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from resnet_hub.errors import DataMissing
from resnet_hub.weights.card import Card
from resnet_hub.weights.folder import amend_card
from resnet_hub.weights.provenance import Receipt, Score

_READERS = ("resnet_hub", "torch", "torchvision", "pillow", "simplejpeg")

Verdict = Literal["same bits", "same answers, other bits", "differs"]


@dataclass(frozen=True)
class Comparison:
    """A score measured again.

    Attributes:
        recorded: The score in the card.
        found: The score measured now.
        verdict: Whether every logit is the same to the bit, or every answer, or neither.
        differences: What differs, in words; empty where no more than bits do.
        unmeasured: The card's other scores, about which this says nothing.
    """

    recorded: Score
    found: Score
    verdict: Verdict
    differences: tuple[str, ...]
    unmeasured: tuple[Score, ...]


def record(folder: Path, score: Score) -> None:
    """Write a measured score into a model folder's card and README; the weights stay untouched.

    It takes the place of a score on the same images at the same precision, if there is one.

    Raises:
        CorruptFile: No card there, or one that cannot be read.
        InvalidSetting: The card would be too long.
        ResNetHubError: The disk refused.
    """

    def recorded(card: Card) -> Card:
        scores = list(card.provenance.scores)
        places = [i for i, other in enumerate(scores) if _key(other) == _key(score)]
        if score.receipt is not None and places:
            scores[places[0]] = score
        else:
            scores.append(score)
        return replace(card, provenance=replace(card.provenance, scores=tuple(scores)))

    amend_card(folder, recorded)


def calibrate(folder: Path, temperature: float) -> None:
    """Write a fitted temperature into a model folder's card and README, for ``predict``.

    Raises:
        CorruptFile: No card there, or one that cannot be read.
        ResNetHubError: The disk refused.
    """
    amend_card(folder, lambda card: replace(card, temperature=temperature))


def recorded_scores(
    scores: Sequence[Score], data: str, *, precision: str | None = None
) -> list[Score]:
    """Return the scores that a measurement on this data can be compared with, all of one precision.

    Args:
        scores: The card's.
        data: Data set and split.
        precision: Lightning's name of it; ``None`` takes 32-true where that was measured, else the
            first that was.

    Raises:
        DataMissing: There is none with a receipt.
    """
    known = [(s.receipt.precision, s) for s in scores if s.receipt and s.data == data]
    if precision is None and known:
        precision = min(known, key=lambda pair: pair[0] != "32-true")[0]
    fitting = [score for own, score in known if own == precision]
    if not fitting:
        at = f" at {precision}" if precision else ""
        raise DataMissing(
            f"the card has no receipt of {data}{at} to compare with; `resnet-hub test` writes one"
        )
    return fitting


def compare(scores: Sequence[Score], found: Score) -> Comparison:
    """Compare a measurement with the recorded one of the same images, or else with the first.

    Args:
        scores: The card's; one at least is of the same data and precision, with its receipt.
        found: What was measured now, with its receipt.

    Raises:
        DataMissing: None of them can be compared.
    """
    (receipt,) = _receipts(found)
    fitting = recorded_scores(scores, found.data, precision=receipt.precision)
    compared = [score for score in fitting if _key(score) == _key(found)] or fitting[:1]
    # A card may hold two of the same images, if somebody wrote them there: each has to be true.
    recorded = max(compared, key=lambda score: len(_differences(score, found)))
    differences = tuple(_differences(recorded, found))
    verdict: Verdict = "differs"
    if not differences:
        (old,) = _receipts(recorded)
        same = old.logits_sha256 == receipt.logits_sha256
        verdict = "same bits" if same else "same answers, other bits"
    unmeasured = tuple(score for score in scores if score not in compared)
    return Comparison(recorded, found, verdict, differences, unmeasured)


def _differences(recorded: Score, found: Score) -> list[str]:
    old, new = _receipts(recorded, found)
    same_data = old.data_sha256 == new.data_sha256
    differences = []
    if not same_data:
        digests = f"SHA-256 {old.data_sha256[:12]}… recorded, {new.data_sha256[:12]}… found"
        differences.append(f"other images, labels or order ({digests})")
        if changed := _other_readers(old, new):
            differences.append(f"other software read them ({changed})")
    if old.preprocess != new.preprocess:
        differences.append("other preprocessing")
    for name in ("n", "top1", "top5"):
        was, now = getattr(recorded, name), getattr(found, name)
        if was != now:
            differences.append(f"{name} {was:.6g} recorded, {now:.6g} found")
    if same_data and old.answers_sha256 != new.answers_sha256:
        differences.append("other answers for some images")
    return differences


def _other_readers(old: Receipt, new: Receipt) -> str:
    """Return which versions differ of what decodes pictures and resizes them."""
    pairs = [(name, *(of.versions.get(name, "none") for of in (old, new))) for name in _READERS]
    return "; ".join(
        f"{name} {was} recorded, {now} found" for name, was, now in pairs if was != now
    )


def _receipts(*scores: Score) -> tuple[Receipt, ...]:
    return tuple(score.receipt for score in scores if score.receipt is not None)


def _key(score: Score) -> tuple[str, str] | None:
    receipt = score.receipt
    return None if receipt is None else (receipt.data_sha256, receipt.precision)

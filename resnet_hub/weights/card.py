"""What a model folder says of itself: ``config.json``, and the README made from it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from resnet_hub.architecture import Architecture
from resnet_hub.counting import multiply_adds, parameters
from resnet_hub.errors import CorruptFile, InvalidSetting, did_you_mean, printable
from resnet_hub.preprocess import Preprocess
from resnet_hub.zoo import name_of

FORMAT = 1
"""Format number of the card; raised when a reader of the old one would misread the new one."""
CARD_NAME, WEIGHTS_NAME, README_NAME = "config.json", "model.safetensors", "README.md"
MOST_BYTES = 1 << 20
MOST_PARAMETERS = 1_000_000_000

_LICENCE = re.compile(r"[A-Za-z0-9(][A-Za-z0-9.+() -]*")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured score.

    Attributes:
        data: Data set and split it was measured on.
        top1: Fraction of images whose first answer is right.
        top5: Fraction with the right answer among the first five (or all classes, if fewer).
        n: Number of images.
    """

    data: str
    top1: float
    top5: float
    n: int

    def __post_init__(self) -> None:
        fractions = (self.top1, self.top5)
        if not all(isinstance(x, int | float) and 0 <= x <= 1 for x in fractions):
            raise InvalidSetting(f"score: {fractions!r} are not two fractions of 1")
        if not isinstance(self.data, str) or not isinstance(self.n, int) or self.n < 1:
            raise InvalidSetting(f"score: {self.n!r} images of {self.data!r} cannot be")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where weights come from; what is unknown is ``None``.

    Attributes:
        sha256: Hex digest of the weights file; filled in when the folder is written.
        source: The run or file the weights were taken from, and how.
        recipe: The resolved recipe.
        commit: Commit of the code that trained them.
        seed: Seed of the run.
        epochs: Epochs trained.
        scores: Measured scores.
        licence: SPDX name of the weights' licence.
        parent: Weights that training began from.
        version: Version of this package that wrote the folder.

    Raises:
        InvalidSetting: A value of another kind, or a licence that is no SPDX name or expression.
    """

    sha256: str = ""
    source: str | None = None
    recipe: Mapping[str, Any] | None = None
    commit: str | None = None
    seed: int | None = None
    epochs: int | None = None
    scores: tuple[Score, ...] = ()
    licence: str | None = None
    parent: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        kinds: dict[str, type] = {"recipe": Mapping, "seed": int, "epochs": int, "scores": tuple}
        for field in fields(self):
            value, kind = getattr(self, field.name), kinds.get(field.name, str)
            known = value is not None or field.name in ("sha256", "scores")
            if known and (not isinstance(value, kind) or isinstance(value, bool)):
                raise InvalidSetting(f"provenance.{field.name}: {value!r} is of another kind")
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            raise InvalidSetting(
                f"licence: {self.licence!r} is no SPDX name, such as MIT or BSD-3-Clause"
            )


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything beside the tensors: exactly what ``config.json`` holds."""

    architecture: Architecture
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    provenance: Provenance

    def __post_init__(self) -> None:
        if (count := parameters(self.architecture)) > MOST_PARAMETERS:
            raise InvalidSetting(f"architecture: {count:,} parameters are over {MOST_PARAMETERS:,}")
        if self.labels is not None and not (
            isinstance(self.labels, list | tuple) and all(isinstance(n, str) for n in self.labels)
        ):
            raise InvalidSetting("labels: not a list of names")
        if self.labels is not None and len(self.labels) != self.architecture.classes:
            raise InvalidSetting(
                f"labels: {len(self.labels)} names for {self.architecture.classes} classes"
            )
        if self.preprocess.channels != self.architecture.in_channels:
            raise InvalidSetting(
                f"preprocess: {self.preprocess.channels} channels for a net that takes "
                f"{self.architecture.in_channels}"
            )

    @property
    def name(self) -> str:
        """The table's name of the net, or a description where no row has it."""
        return name_of(self.architecture) or f"a {self.architecture.layers}-layer net"

    def to_json(self) -> str:
        """Return the text of ``config.json``.

        Raises:
            InvalidSetting: It would be longer than a card may be, or holds what is not JSON.
        """
        try:
            content = {
                "format": FORMAT,
                "name": self.name,
                "architecture": self.architecture.to_dict(),
                "preprocess": self.preprocess.to_dict(),
                "labels": self.labels,
                "provenance": asdict(self.provenance),
            }
            text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            # What stands for bytes that are no text, in a label or a path: JSON can, UTF-8 cannot.
            text = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
            length = len(text.encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidSetting(f"{CARD_NAME}: cannot hold this ({error})") from error
        if length > MOST_BYTES:
            raise InvalidSetting(
                f"{CARD_NAME}: {length:,} bytes are over {MOST_BYTES:,}; "
                "keep the recipe and the labels short, and a per-pixel mean to small images"
            )
        return text

    @classmethod
    def from_json(cls, text: str, where: str) -> "Card":
        """Read :meth:`to_json`'s text.

        Args:
            text: The text.
            where: Its file, for messages.

        Raises:
            CorruptFile: Not a card that this version can read; the message names the field.
        """
        try:
            content = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
            return cls._from_content(content)
        except (
            InvalidSetting,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            reason = " ".join(reason.split())  # the file's own words may be long and of many lines
            reason = reason if len(reason) <= 300 else f"{reason[:300]}…"
            raise CorruptFile(f"{where}: not a card of this package ({reason})") from error

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> "Card":
        if content.get("format") != FORMAT:
            raise InvalidSetting(
                f"format {content.get('format')!r}, this version reads {FORMAT}; upgrade resnet-hub"
            )
        labels = content["labels"]
        return cls(
            architecture=Architecture.from_dict(content["architecture"]),
            preprocess=Preprocess.from_dict(content["preprocess"]),
            labels=tuple(labels) if isinstance(labels, list) else labels,
            provenance=_provenance(content["provenance"]),
        )


def read_card(folder: Path) -> Card:
    """Read a model folder's card.

    Raises:
        CorruptFile: No card there, or one that cannot be read.
    """
    path = folder / CARD_NAME
    if not path.is_file():
        raise CorruptFile(f"{folder}: no model folder (it holds no {CARD_NAME})")
    if path.stat().st_size > MOST_BYTES:
        raise CorruptFile(f"{path}: over {MOST_BYTES:,} bytes; no card is that long")
    try:
        return Card.from_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path}: not text ({error.reason})") from error


def write_readme(card: Card, uses: str) -> str:
    """Return the README of a model folder: front matter for the Hub, then what it is.

    Args:
        card: The card.
        uses: Folder or repository name for the example.
    """
    net, origin = card.architecture, card.provenance
    rows = "".join(
        f"| {printable(score.data)} | {score.top1:.2%} | {score.top5:.2%} | {score.n:,} |\n"
        for score in origin.scores
    )
    scores = (
        f"| data | top-1 | top-5 | n |\n|---|---|---|---|\n{rows}" if rows else "Not measured.\n"
    )
    facts = [
        f"{parameters(net):,} parameters, {multiply_adds(net, card.preprocess.size) / 1e6:,.1f} "
        f"million multiply-adds at {card.preprocess.size} pixels",
        f"{net.classes} classes, {net.in_channels} image channels",
        *(
            f"{name}: {printable(str(value))}"
            for name, value in (
                ("source", origin.source),
                ("commit", origin.commit),
                ("seed", origin.seed),
                ("epochs", origin.epochs),
                ("parent", origin.parent),
                ("licence", origin.licence or "unstated"),
                ("weights' SHA-256", origin.sha256),
            )
            if value is not None
        ),
    ]
    return (
        "---\nlibrary_name: resnet_hub\npipeline_tag: image-classification\ntags: [resnet]\n"
        + (f"license: {origin.licence.lower()}\n" if origin.licence else "")
        + f"---\n\n# {card.name}\n\n"
        + "".join(f"- {fact}\n" for fact in facts)
        + f"\n## Scores\n\n{scores}\n## Use\n\n```python\nfrom resnet_hub import ResNet\n\n"
        + f"net = ResNet.from_pretrained({uses!r})\n"
        + "logits = net(net.preprocess(image)[None])   # image: PIL or uint8 (C, H, W)\n```\n"
    )


def _provenance(content: Mapping[str, Any]) -> Provenance:
    names = {field.name for field in fields(Provenance)}
    for name in content:
        if name not in names:
            raise InvalidSetting(f"provenance: no field {name!r}{did_you_mean(name, names)}")
    digest, scores = content.get("sha256"), content.get("scores", [])
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise InvalidSetting("provenance.sha256: not 64 lower-case hex digits")
    if isinstance(scores, list):
        scores = tuple(Score(**score) for score in scores)
    return Provenance(**{**content, "scores": scores})


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise InvalidSetting("a key stands there twice")
    return content


def _refuse(constant: str) -> Any:
    raise InvalidSetting(f"{constant} is no number")

"""What a model folder says of itself: ``config.json``."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnet_hub.architecture import Architecture
from resnet_hub.counting import parameters
from resnet_hub.errors import CorruptFile, InvalidSetting
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights.provenance import Provenance
from resnet_hub.zoo import title_of

FORMAT = 1
"""Format number of the card; raised when a reader of the old one would misread the new one."""
CARD_NAME, WEIGHTS_NAME, README_NAME = "config.json", "model.safetensors", "README.md"
FILES = (WEIGHTS_NAME, CARD_NAME, README_NAME)
"""What a model folder holds, and nothing else."""
MOST_BYTES = 1 << 20
MOST_PARAMETERS = 1_000_000_000

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Everything beside the tensors: exactly what ``config.json`` holds.

    The temperature is what logits are divided by before the softmax, where it was fitted.
    """

    architecture: Architecture
    preprocess: Preprocess
    labels: tuple[str, ...] | None
    provenance: Provenance
    temperature: float | None = None

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
        if self.temperature is not None and not _is_temperature(self.temperature):
            raise InvalidSetting(f"temperature: {self.temperature!r} is no number above 0")
        if self.preprocess.channels != self.architecture.in_channels:
            raise InvalidSetting(
                f"preprocess: {self.preprocess.channels} channels for a net that takes "
                f"{self.architecture.in_channels}"
            )

    @property
    def name(self) -> str:
        """The table's name of the net, or what it is called where no row has it."""
        return title_of(self.architecture)

    def to_json(self) -> str:
        """Return the text of ``config.json``.

        Raises:
            InvalidSetting: It would be longer than a card may be, or holds what is not JSON.
        """
        try:
            content: dict[str, Any] = {
                "format": FORMAT,
                "name": self.name,
                "architecture": self.architecture.to_dict(),
                "preprocess": self.preprocess.to_dict(),
                "labels": self.labels,
                "provenance": self.provenance.to_dict(),
            }
            if self.temperature is not None:
                content["temperature"] = self.temperature
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
            provenance=Provenance.from_dict(content["provenance"]),
            temperature=content.get("temperature"),
        )


def read_card(folder: Path) -> Card:
    """Read a model folder's card.

    Raises:
        CorruptFile: No card there, or one that cannot be read.
    """
    path = folder / CARD_NAME
    if not path.is_file():
        exported = folder / "model"
        hint = f"; that is {exported}" if (exported / CARD_NAME).is_file() else ""
        raise CorruptFile(f"{folder}: no model folder (it holds no {CARD_NAME}){hint}")
    if path.stat().st_size > MOST_BYTES:
        raise CorruptFile(f"{path}: over {MOST_BYTES:,} bytes; no card is that long")
    try:
        return Card.from_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise CorruptFile(f"{path}: not text ({error.reason})") from error


def _is_temperature(value: object) -> bool:
    """Return whether logits can be divided by this."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 < value < math.inf


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise InvalidSetting("a key stands there twice")
    return content


def _refuse(constant: str) -> Any:
    raise InvalidSetting(f"{constant} is no number")

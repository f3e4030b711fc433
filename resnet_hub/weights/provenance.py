"""Where weights come from and what they score, so that it can be looked up and measured again."""

import math
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from resnet_hub import __version__
from resnet_hub.errors import InvalidSetting, did_you_mean
from resnet_hub.preprocess import Preprocess

_LICENCE = re.compile(r"[A-Za-z0-9(][A-Za-z0-9.+() -]*")
_SHA256 = re.compile("[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_MOST_VERSIONS = 32
_DECODERS = ("pillow", "simplejpeg")  # beside torchvision's own


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a score was measured on, and the very answers, so that it can be measured again.

    The digests depend on no order, batch size or number of processes: each sample is hashed with
    its number in the split, and the digests of all are hashed in the order of these numbers.

    Attributes:
        data_sha256: Over every sample's number, label and uint8 pixels as given to the net.
        answers_sha256: Over every sample's number and most likely class.
        logits_sha256: Over every sample's number and float32 logits.
        preprocess: What made the net's input of the pixels.
        precision: Lightning's name, such as ``32-true``.
        device: Kind of the device, such as ``cpu`` or ``cuda``.
        versions: Of the software, by name.

    Raises:
        InvalidSetting: A value of another kind.
    """

    data_sha256: str
    answers_sha256: str
    logits_sha256: str
    preprocess: Preprocess
    precision: str
    device: str
    versions: Mapping[str, str]

    def __post_init__(self) -> None:
        for name in ("data_sha256", "answers_sha256", "logits_sha256"):
            _check_digest(f"receipt.{name}", getattr(self, name))
        for name in ("precision", "device"):
            if not _is_word(value := getattr(self, name)):
                raise InvalidSetting(f"receipt.{name}: {value!r} is no plain word")
        if not isinstance(self.preprocess, Preprocess):
            raise InvalidSetting("receipt.preprocess: is no preprocessing")
        _check_versions("receipt.versions", self.versions)

    def __str__(self) -> str:
        return f"{self.precision} on {self.device}"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Receipt":
        """Build from ``dataclasses.asdict``'s form.

        Raises:
            InvalidSetting: A field is unknown, missing or of another kind.
        """
        _check_names("receipt", content, cls)
        return cls(**{**content, "preprocess": Preprocess.from_dict(content["preprocess"])})


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured score.

    Attributes:
        data: Data set and split it was measured on.
        top1: Fraction of images whose first answer is right.
        top5: Fraction with the right answer among the first five (or all classes, if fewer).
        n: Number of images.
        receipt: How to measure it again; ``None`` where others published it.

    Raises:
        InvalidSetting: Values that no score can have.
    """

    data: str
    top1: float
    top5: float
    n: int
    receipt: Receipt | None = None

    def __post_init__(self) -> None:
        fractions = (self.top1, self.top5)
        if not all(isinstance(x, int | float) and 0 <= x <= 1 for x in fractions):
            raise InvalidSetting(f"score: {fractions!r} are not two fractions of 1")
        if not isinstance(self.data, str) or not isinstance(self.n, int) or self.n < 1:
            raise InvalidSetting(f"score: {self.n!r} images of {self.data!r} cannot be")
        if self.receipt is not None and not isinstance(self.receipt, Receipt):
            raise InvalidSetting("score.receipt: is no receipt")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Score":
        """Build from ``dataclasses.asdict``'s form.

        Raises:
            InvalidSetting: A field is unknown, missing or of another kind.
        """
        _check_names("score", content, cls)
        receipt = content.get("receipt")
        read = None if receipt is None else Receipt.from_dict(receipt)
        return cls(**{**content, "receipt": read})


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How near a converted net's answers are to those of the net it was converted from.

    Attributes:
        against: What it was compared with.
        largest: Largest absolute difference between two logits.
        n: Inputs compared.

    Raises:
        InvalidSetting: Values that no comparison can give.
    """

    against: str
    largest: float
    n: int

    def __post_init__(self) -> None:
        number = isinstance(self.largest, int | float) and not isinstance(self.largest, bool)
        if not number or not math.isfinite(self.largest) or self.largest < 0:
            raise InvalidSetting(f"parity.largest: {self.largest!r} is no difference")
        whole = isinstance(self.n, int) and not isinstance(self.n, bool)
        if not isinstance(self.against, str) or not whole or self.n < 1:
            raise InvalidSetting(f"parity: {self.n!r} inputs of {self.against!r} cannot be")

    def __str__(self) -> str:
        return f"logits differ by {self.largest:.3g} at most from {self.against} (n = {self.n:,})"

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Parity":
        """Build from ``dataclasses.asdict``'s form.

        Raises:
            InvalidSetting: A field is unknown, missing or of another kind.
        """
        _check_names("parity", content, cls)
        return cls(**content)


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
        versions: Of the software that trained or converted them, by name.
        hardware: What trained them: processes and their devices.
        parity: Comparison with the net they were converted from.

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
    versions: Mapping[str, str] | None = None
    hardware: str | None = None
    parity: Parity | None = None

    def __post_init__(self) -> None:
        kinds: dict[str, type] = {
            "recipe": Mapping,
            "seed": int,
            "epochs": int,
            "scores": tuple,
            "versions": Mapping,
            "parity": Parity,
        }
        for field in fields(self):
            value, kind = getattr(self, field.name), kinds.get(field.name, str)
            known = value is not None or field.name in ("sha256", "scores")
            if known and (not isinstance(value, kind) or isinstance(value, bool)):
                raise InvalidSetting(f"provenance.{field.name}: {value!r} is of another kind")
        if not all(isinstance(score, Score) for score in self.scores):
            raise InvalidSetting("provenance.scores: holds what is no score")
        if self.versions is not None:
            _check_versions("provenance.versions", self.versions)
        if self.licence is not None and not _LICENCE.fullmatch(self.licence):
            raise InvalidSetting(
                f"licence: {self.licence!r} is no SPDX name, such as MIT or BSD-3-Clause"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, without the hardware where it is unknown: older cards stay as are."""
        content = asdict(self)
        if self.hardware is None:
            del content["hardware"]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Provenance":
        """Build from ``dataclasses.asdict``'s form.

        Raises:
            InvalidSetting: A field is unknown or of another kind, or there is no digest.
        """
        _check_names("provenance", content, cls)
        _check_digest("provenance.sha256", content.get("sha256"))
        scores, parity = content.get("scores", []), content.get("parity")
        if isinstance(scores, list):
            scores = tuple(Score.from_dict(score) for score in scores)
        read = None if parity is None else Parity.from_dict(parity)
        return cls(**{**content, "scores": scores, "parity": read})


def software() -> dict[str, str]:
    """Return the versions of what takes part in training and measuring, as far as installed."""
    found = {"resnet_hub": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "lightning", *_DECODERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # using a net needs torch alone
            continue
    return found


def _is_word(value: object) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _check_digest(name: str, value: object) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise InvalidSetting(f"{name}: not 64 lower-case hex digits")


def _check_versions(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or len(value) > _MOST_VERSIONS:
        raise InvalidSetting(f"{name}: not at most {_MOST_VERSIONS} versions by name")
    if not all(_is_word(part) for pair in value.items() for part in pair):
        raise InvalidSetting(f"{name}: a name or a version is no plain word")


def _check_names(section: str, content: Iterable[str], kind: type) -> None:
    names = {field.name for field in fields(kind)}
    for name in content:
        if name not in names:
            raise InvalidSetting(f"{section}: no field {name!r}{did_you_mean(name, names)}")

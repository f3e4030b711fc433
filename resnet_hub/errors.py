"""The errors a user can meet: each message is one line that says what, where and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class ResNetHubError(Exception):
    """Any mistake in the input that this package found; the command line prints it as one line."""


class UnknownName(ResNetHubError):
    """A name that no table knows; the message offers the nearest one."""


class InvalidSetting(ResNetHubError):
    """A value that cannot work, in an architecture, a recipe or an argument."""


class CorruptFile(ResNetHubError):
    """A file whose bytes are not what they should be: cut, changed, or of another format."""


class WeightsMismatch(ResNetHubError):
    """Weights that do not fit the net they are loaded into."""


class DataMissing(ResNetHubError):
    """A data set, folder or split that is not where it was looked for."""


class BadData(ResNetHubError):
    """Data that is there but cannot be used: a broken image, a class on one side only."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of ``names``, or the empty string."""
    nearest = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""

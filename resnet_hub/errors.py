"""The errors a user can meet: each message is one line that says what, where and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class ResNetHubError(Exception):
    """Any mistake in the input that this package found; the command line prints it as one line.

    Its text is printable, whatever the names and paths in it: a file's words give no commands to a
    terminal, and cannot fail to be encoded.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class UnknownName(ResNetHubError):
    """A name that no table knows; the message offers the nearest one."""


class InvalidSetting(ResNetHubError):
    """A value that cannot work, in an architecture, a recipe or an argument."""


class CorruptFile(ResNetHubError):
    """A file whose bytes are not what they should be: cut, changed, or of another format."""


class WeightsMismatch(ResNetHubError):
    """Weights that do not fit the net they are loaded into."""


class Diverged(ResNetHubError):
    """Weights that training drove to infinity or to what is no number."""


class OutOfMemory(ResNetHubError):
    """Batches that need more memory than there is."""


class WorkerLost(ResNetHubError):
    """A process that read data and was killed, or does not answer any more."""


class DataMissing(ResNetHubError):
    """A data set, folder or split that is not where it was looked for."""


class BadData(ResNetHubError):
    """Data that is there but cannot be used: a broken image, a class on one side only."""


def printable(text: str) -> str:
    """Return text with all that is not printable as Python would escape it: one line, no commands.

    Line ends, control characters, marks that turn the direction of writing, and surrogates, which
    stand for bytes that are no text.
    """
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of ``names``, or the empty string."""
    nearest = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""

"""Where images lie that are in no files of their own."""

from typing import Protocol


class Source(Protocol):
    """Holds the bytes of a split's images."""

    @property
    def changed(self) -> str:
        """What was done to the pixels before they were put there; empty where nothing was."""
        ...

    def read(self, index: int, path: str) -> bytes:
        """Return the bytes of one image, which messages call ``path``.

        Raises:
            BadData: They are damaged.
        """
        ...

    def stamp(self) -> str:
        """Return a hex SHA-256 over the bytes of all images there."""
        ...

"""Checkpoints of a run: folders of tensors, plain values and a manifest, whole or not at all.

Nothing in them is code. A folder appears under its name when all of it is on disk; its manifest has
every file's size and SHA-256, so that what was damaged later is found before it is used.
"""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from resnet_hub.errors import CorruptFile
from resnet_hub.learning.saving.state import pack, unpack
from resnet_hub.weights.store import (
    read_tensors,
    sha256_of,
    write_folder,
    write_tensors,
    write_text,
)

FORMAT = 1
"""Format number in the manifest; raised when a reader of the old one would misread the new one."""
MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
FILES = (TENSORS, STATE, MANIFEST)
"""What a checkpoint's folder holds, and nothing else."""

_MOST_BYTES = {MANIFEST: 1 << 20, STATE: 1 << 28}
_STEP = re.compile(r"(step|best)-(\d{1,15})")


class FolderCheckpoints(CheckpointIO):
    """Lightning's plugin that writes and reads checkpoints as this module does.

    Args:
        recipe: What the run goes by, to be kept in each of them.
    """

    def __init__(self, recipe: Mapping[str, Any] | None = None) -> None:
        self.recipe = recipe

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write one checkpoint; what was there stays until this one is complete."""
        write_checkpoint(Path(path), {**checkpoint, "recipe": self.recipe})

    def load_checkpoint(
        self,
        path: Any,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read one checkpoint, its tensors on the CPU.

        Raises:
            CorruptFile: It is damaged, or none.
        """
        return read_training_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove one checkpoint."""
        shutil.rmtree(path, ignore_errors=True)


def write_checkpoint(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, durably: files, manifest, then the folder's name.

    Args:
        folder: Where; an earlier checkpoint there is replaced.
        content: Nested plain values and tensors, with ``global_step``.

    Raises:
        InvalidSetting: It holds what is neither; the message says where. Or something else lies in
            ``folder``.
        ResNetHubError: The disk refused; what was there is intact.
    """
    state, tensors = pack(content)

    def fill(place: Path) -> None:
        write_tensors(place / TENSORS, tensors)
        write_text(place / STATE, json.dumps(state, allow_nan=False))
        files = {
            name: {"size": (place / name).stat().st_size, "sha256": sha256_of(place / name)}
            for name in (TENSORS, STATE)
        }
        manifest = {"format": FORMAT, "step": content["global_step"], "files": files}
        write_text(place / MANIFEST, json.dumps(manifest, indent=1) + "\n")

    write_folder(folder, fill, names=FILES)


def read_training_checkpoint(folder: Path) -> dict[str, Any]:
    """Read a checkpoint that a run wrote, every byte verified.

    Returns:
        What was written: tensors on the CPU, memory-mapped (copy-on-write).

    Raises:
        CorruptFile: It is damaged, or none.
    """
    step = verify(folder)
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        content = unpack(state, read_tensors(folder / TENSORS))
    except (OSError, ValueError, RecursionError, CorruptFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorruptFile(f"{folder}: not a checkpoint of a run ({reason})") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CorruptFile(f"{folder}: not a checkpoint of a run (it holds no state_dict)")
    if content.get("global_step") != step:
        raise CorruptFile(f"{folder / MANIFEST}: damaged, it is of another step")
    return content


def verify(folder: Path) -> int:
    """Check that a checkpoint is whole: exactly its files, each of the manifest's size and digest.

    Returns:
        The optimizer step that the manifest says it is of.

    Raises:
        CorruptFile: It is not.
    """
    if folder.is_file():
        raise CorruptFile(
            f"{folder}: a file, and a run's checkpoints are folders; `resnet-hub convert` reads "
            "what others wrote"
        )
    step, files = _read_manifest(folder)
    try:
        found = {path.name for path in folder.iterdir()}
        if found != set(FILES):
            odd = ", ".join(sorted(found ^ set(FILES))[:3])
            raise CorruptFile(
                f"{folder}: damaged, files are missing or do not belong there ({odd})"
            )
        for name, (size, sha256) in files.items():
            if (folder / name).stat().st_size != size or sha256_of(folder / name) != sha256:
                raise CorruptFile(f"{folder / name}: damaged, its manifest has another SHA-256")
    except OSError as error:
        raise CorruptFile(f"{folder}: cannot be read ({error.strerror or error})") from error
    return step


def numbered(folder: Path, kind: str) -> list[tuple[int, Path]]:
    """Return the checkpoints of a folder with their steps, the highest first.

    Args:
        folder: A run's ``checkpoints``.
        kind: ``step`` for those that training goes on from, ``best`` for the best by validation.
    """
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        name = _STEP.fullmatch(path.name)
        if name and name[1] == kind:
            found.append((int(name[2]), path))
    return sorted(found, reverse=True)


def set_aside(folder: Path) -> Path:
    """Take a checkpoint out of the way, under a name that no run looks at; return it."""
    aside = folder.with_name(f"set-aside-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left of writing a checkpoint.

    Nobody else may be writing there.
    """
    for orphan in folder.glob(".*"):
        if re.match(r"\.(step|best)-\d", orphan.name):
            shutil.rmtree(orphan, ignore_errors=True)


def finished_epochs(content: Mapping[str, Any]) -> int | None:
    """Return how many whole epochs a checkpoint was trained for, or ``None`` where it is silent.

    Lightning's own ``epoch`` is the running one's number, of an epoch's end as of its middle.
    """
    try:
        loop = content["loops"]["fit_loop"]
        begun: int = loop["epoch_progress"]["current"]["ready"]
        return begun if loop["epoch_loop.batch_progress"]["is_last_batch"] else begun - 1
    except (KeyError, TypeError):
        return None


def _read_manifest(folder: Path) -> tuple[int, dict[str, tuple[int, str]]]:
    path = folder / MANIFEST
    if not path.is_file():
        raise CorruptFile(f"{folder}: not a checkpoint of a run (it holds no {MANIFEST})")
    try:
        for name, most in _MOST_BYTES.items():
            if (folder / name).stat().st_size > most:
                raise CorruptFile(f"{folder / name}: over {most:,} bytes")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CorruptFile(
                f"{path}: format {manifest['format']!r}, this version reads {FORMAT}; upgrade "
                "resnet-hub"
            )
        files = {name: manifest["files"][name] for name in (TENSORS, STATE)}
        digests = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
        return manifest["step"], digests
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptFile(f"{path}: damaged, it is no manifest") from error

"""When checkpoints are written, and which of them stay."""

import json
from pathlib import Path

import pytest
import ranks
from lightning.pytorch.callbacks import Callback
from small_runs import checkpoint, command, failure, fit, flip_last_bit, refusal

from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.saving.checkpoints import numbered, read_training_checkpoint, verify
from resnet_hub.learning.saving.keeper import Keeper
from resnet_hub.learning.settings import CheckpointSettings

TWO = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=2", "--data.held_out=0")


def kept(run: Path, kind: str = "step") -> list[int]:
    return [step for step, _ in numbered(run / "checkpoints", kind)]


class Watch(Callback):
    """Notes the checkpoints that lie there after each batch, to be named in a recipe."""

    seen: list[list[str]]

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        Watch.seen = []

    def on_train_batch_start(self, *_: object) -> None:
        Watch.seen.append(sorted(path.name for path in self.folder.iterdir()))


def watched(run: Path, *flags: str) -> list[list[int]]:
    """Train, and return the steps of the checkpoints at each batch's begin."""
    entry = {"class_path": f"{__name__}.Watch", "init_args": {"folder": f"{run}/checkpoints"}}
    fit(run, *TWO, "--callbacks", json.dumps([entry]), *flags)
    return [[int(name.partition("-")[2]) for name in names] for names in Watch.seen]


@pytest.mark.parametrize(
    ("flags", "newest"),
    [
        pytest.param((), [0] * 6 + [6] * 6 + [12], id="every epoch"),
        pytest.param(("--checkpoint.every_epochs=2",), [0] * 12 + [12], id="every other epoch"),
        pytest.param(("--checkpoint.every_epochs=null",), [0] * 12 + [12], id="at the end alone"),
        pytest.param(
            ("--checkpoint.every_steps=4", "--checkpoint.every_epochs=null"),
            [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12],
            id="every four steps",
        ),
        pytest.param(
            ("--checkpoint.every_steps=6", "--checkpoint.every_epochs=null"),
            [0] * 6 + [6] * 6 + [12],
            id="steps that end an epoch",
        ),
        pytest.param(
            ("--checkpoint.every_minutes=1e-9", "--trainer.limit_train_batches=22"),
            [*range(22), *range(22, 44), 44],
            id="by the clock",
        ),
    ],
)
def test_they_are_written_when_the_settings_say(
    tmp_path: Path, flags: tuple[str, ...], newest: list[int]
):
    seen = watched(tmp_path / "run", *flags)
    assert [max(steps, default=0) for steps in seen] == newest[:-1]
    assert kept(tmp_path / "run")[0] == newest[-1]


def test_several_ranks_write_by_the_clock_at_one_step(tmp_path: Path):
    flags = ("--trainer.limit_train_batches=6", "--trainer.max_epochs=1", "--out=run")
    cadence = ("--checkpoint.every_minutes=1e-9", "--checkpoint.every_epochs=null")
    with ranks.command(2, "fit", "quickstart", *flags, *cadence, cwd=tmp_path) as both:
        assert both.codes() == [0, 0], both.err()
    assert kept(tmp_path / "run") == [6, 5]


@pytest.mark.parametrize("keep", [2, 3])
def test_the_newest_stay(tmp_path: Path, keep: int):
    seen = watched(tmp_path / "run", "--checkpoint.every_steps=1", f"--checkpoint.keep={keep}")
    assert kept(tmp_path / "run") == list(range(12, 12 - keep, -1))
    assert max(map(len, seen)) == keep


def test_where_a_validation_follows_the_next_step_is_saved(tmp_path: Path):
    flags = ("--trainer.val_check_interval=3", "--checkpoint.every_steps=3")
    seen = watched(tmp_path / "run", *flags)
    assert [max(steps, default=0) for steps in seen] == [0, 0, 0, 0, 4, 4, 6, 6, 6, 6, 10, 10]


def test_the_best_weights_are_kept_beside_them(tmp_path: Path):
    run = fit(tmp_path / "run", *TWO, "--data.held_out=180", "--trainer.val_check_interval=3")
    (step,) = kept(run, "best")
    content = checkpoint(run, "best")
    assert content["global_step"] == step
    assert "optimizer_states" not in content
    assert "rows" not in content
    rows = (run / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/top1")
    scores = {int(row.split(",")[1]) + 1: float(row.split(",")[column] or 0) for row in rows[1:]}
    assert scores[step] == max(scores.values())
    assert f"{checkpoint(run)['callbacks']['Keeper']['best']:.6g}" == f"{scores[step]:.6g}"


class Unsaved(Callback):
    """Has a state that neither JSON nor tensors hold."""

    def state_dict(self) -> dict[str, object]:
        return {"seen": {1, 2}}


def test_a_callback_whose_state_cannot_be_kept_is_refused_before_any_step(tmp_path: Path, capsys):
    entry = json.dumps([{"class_path": f"{__name__}.Unsaved"}])
    arguments = ("fit", "quickstart", *TWO, "--callbacks", entry, "--out", tmp_path / "run")
    message = failure(capsys, *arguments)
    assert "callbacks: the state of Unsaved cannot be kept in a checkpoint" in message
    assert "Unsaved.seen: set is neither plain values nor tensors" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.fault("W2")
def test_what_a_killed_process_left_is_swept_when_the_run_goes_on(tmp_path: Path):
    run = fit(tmp_path / "run", *TWO)
    orphan = run / "checkpoints/.step-00000013.x1y2"
    orphan.mkdir()
    (orphan / "tensors.safetensors").touch()
    (run / "checkpoints/.mine").mkdir()
    assert command("fit", "--resume", run) == 0
    assert not orphan.exists()
    assert (run / "checkpoints/.mine").exists()


@pytest.mark.fault("W1")
def test_an_older_one_stays_where_the_newest_is_not_whole(tmp_path: Path, monkeypatch, capsys):
    from resnet_hub.learning.saving import keeper

    def damaged(folder: Path) -> int:
        flip_last_bit(folder / "tensors.safetensors")  # a disk that lies
        return verify(folder)

    monkeypatch.setattr(keeper, "verify", damaged)
    flags = (*TWO, "--checkpoint.every_steps=1", "--out", tmp_path / "run")
    message = failure(capsys, "fit", "quickstart", *flags)
    assert "damaged, its manifest has another SHA-256" in message
    assert kept(tmp_path / "run") == [1]
    monkeypatch.setattr(keeper, "verify", verify)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"every_epochs": 0}, "checkpoint.every_epochs: 0 is not a number of at least 1"),
        ({"every_steps": 0}, "checkpoint.every_steps: 0 is not"),
        ({"every_minutes": 0}, "checkpoint.every_minutes: 0 is not a number above 0"),
        ({"keep": 1}, "checkpoint.keep: 1 is not a number of at least 2"),
    ],
)
def test_settings_that_keep_nothing_are_refused(settings: dict[str, int], words: str):
    with pytest.raises(InvalidSetting, match=words):
        CheckpointSettings(**settings)


def test_a_mistyped_cadence_is_named(tmp_path: Path, capsys):
    message = refusal(capsys, "fit", "quickstart", "--checkpoint.every_step=3")
    assert "did you mean 'every_steps'?" in message


def test_its_state_is_the_best_score_alone():
    keeper = Keeper(None, CheckpointSettings(), monitor="val/top1")
    keeper.load_state_dict({"best": 0.5})
    assert keeper.state_dict() == {"best": 0.5}


def test_a_checkpoint_says_what_its_numbers_hang_on(tmp_path: Path):
    run = fit(tmp_path / "run", *TWO)
    content = read_training_checkpoint(run / "checkpoints/step-00000012")
    situation = content["situation"]
    assert {**situation, "data": ""} == {
        "data": "",
        "images": {"train": 1437, "test": 360},
        "processes": 1,
        "images a batch": 32,
        "batches a step": 1,
        "epochs": 2,
        "steps": -1,
    }
    assert len(situation["data"]) == 64
    assert content["recipe"]["net"]["name"] == "cifar_resnet20"

"""Whole runs: what lies in the folder, and which net is exported."""

import csv
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from pictures import class_folders
from PIL import Image
from safetensors.torch import load_file
from small_runs import TINY, checkpoint, command, fit, refusal, untimed_rows

from resnet_hub.learning.reporting.journal import TIMING
from resnet_hub.learning.saving.checkpoints import FILES
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card

PART = ("--trainer.max_epochs=3", "--trainer.limit_train_batches=3")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(run: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(run) if row.get(name)]


def files(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def exported(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def saved(run: Path, name: str, prefix: str = "net.") -> dict[str, torch.Tensor]:
    state = checkpoint(run, name)["state_dict"]
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a validation split, whose last epochs are worse than its first.

    A learning rate gone mad sees to that: every net that knows one answer only scores 10%.
    """
    mad = "{name: multistep, milestones: [1], gamma: 30, warmup: 0}"
    flags = ("--trainer.limit_train_batches=39", "--schedule", mad)
    return fit(tmp_path_factory.mktemp("runs") / "held_out", *PART, *flags)


@pytest.fixture(scope="module")
def all_trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that trains on every image that is not for the test."""
    return fit(tmp_path_factory.mktemp("runs") / "all", *PART, "--data.held_out=0")


def test_a_run_holds_its_recipe_rows_curves_checkpoints_and_model(held_out: Path):
    assert files(held_out) == [
        ".lock",
        *(f"checkpoints/best-00000039/{name}" for name in sorted(FILES)),
        *(f"checkpoints/step-00000078/{name}" for name in sorted(FILES)),
        *(f"checkpoints/step-00000117/{name}" for name in sorted(FILES)),
        "curves.png",
        "metrics.csv",
        "model/README.md",
        "model/config.json",
        "model/model.safetensors",
        "recipe.yaml",
    ]


def test_the_best_epoch_by_validation_is_exported(held_out: Path):
    top1 = column(held_out, "val/top1")
    best = top1.index(max(top1)) + 1
    card = read_card(held_out / "model")
    assert card.provenance.epochs == best < len(top1) == 3
    assert equal(exported(held_out), saved(held_out, "best"))
    assert not equal(exported(held_out), saved(held_out, "step"))
    assert checkpoint(held_out, "step")["epoch"] == 2


def test_a_run_with_held_out_images_is_watched_on_them_and_only_in_the_end_tested(held_out: Path):
    assert list(rows(held_out)[0]) == [
        *("epoch", "step", "train/loss", "lr", "val/loss", "val/top1", "val/top5", "val/n"),
        *("train/epoch_loss", "train/top1", "train/top5"),
        *TIMING,
    ]
    (score,) = read_card(held_out / "model").provenance.scores
    assert (score.data, score.n) == ("Digits test", 360)
    assert read_card(held_out / "model").provenance.hardware.startswith("1 × cpu (")
    net = ResNet.from_pretrained(held_out / "model")
    right, images = 0, _test_images()
    with torch.inference_mode():
        right = int((net(net.preprocess(images[0])).argmax(1) == images[1]).sum())
    assert score.top1 == right / 360


def _test_images() -> tuple[torch.Tensor, torch.Tensor]:
    from resnet_hub.data.digits import Digits

    batches = list(Digits().open().test_dataloader())
    return torch.cat([b.images for b in batches]), torch.cat([b.labels for b in batches])


def test_without_held_out_images_there_is_no_best_and_the_last_epoch_is_exported(
    all_trained: Path,
):
    assert not [name for name in files(all_trained) if "best-" in name]
    assert equal(exported(all_trained), saved(all_trained, "step"))
    assert read_card(all_trained / "model").provenance.epochs == 3


def test_without_held_out_images_the_curves_are_the_tests_and_the_last_is_the_score(
    all_trained: Path,
):
    names = list(rows(all_trained)[0])
    assert {"test/loss", "test/top1", "test/top5"} <= set(names)
    assert not [name for name in names if name.startswith("val/")]
    (score,) = read_card(all_trained / "model").provenance.scores
    top1 = column(all_trained, "test/top1")
    assert len(top1) == 3
    assert score.top1 == pytest.approx(top1[-1], rel=1e-5)


def test_rows_stand_at_each_logged_step_and_each_epochs_end(all_trained: Path):
    assert [(row["epoch"], row["step"]) for row in rows(all_trained)] == [
        (str(step // 3), str(step)) for step in range(9)
    ]
    with_scores = [row["step"] for row in rows(all_trained) if row["train/top1"]]
    assert with_scores == ["2", "5", "8"]


def test_the_card_says_where_the_weights_come_from(held_out: Path):
    card = read_card(held_out / "model")
    origin = card.provenance
    assert card.name == "cifar_resnet20"
    assert card.labels == tuple("0123456789")
    assert origin.recipe == yaml.safe_load((held_out / "recipe.yaml").read_text())
    assert origin.seed == 1
    assert origin.source == f"run {held_out}"
    assert origin.parent is None
    readme = (held_out / "model" / "README.md").read_text()
    assert "| Digits test |" in readme
    assert "| 360 |" in readme


def test_the_curves_are_a_picture(held_out: Path):
    with Image.open(held_out / "curves.png") as picture:
        assert picture.format == "PNG"


def test_the_averaged_net_is_what_is_exported(tmp_path: Path):
    flags = ("--model.ema_decay=0.5", "--data.held_out=0")
    run = fit(tmp_path / "run", *PART, *flags)
    assert equal(exported(run), saved(run, "step", "averaged.module."))
    assert not equal(exported(run), saved(run, "step", "net."))
    assert len(column(run, "test/live_top1")) == len(column(run, "test/top1")) == 3
    assert column(run, "test/live_loss") != column(run, "test/loss")


def test_the_runs_own_recipe_needs_no_other_file_and_gives_the_same_run(
    held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(held_out / "recipe.yaml", "own.yaml")
    assert command("fit", "own.yaml", "--out", "again") == 0
    again = tmp_path / "again"
    assert equal(exported(again), exported(held_out))
    assert untimed_rows(again) == untimed_rows(held_out)
    assert (again / "recipe.yaml").read_text() == (held_out / "recipe.yaml").read_text()


def test_another_seed_is_another_run(all_trained: Path, tmp_path: Path):
    other = fit(tmp_path / "run", *PART, "--data.held_out=0", "--seed=2")
    assert not equal(exported(other), exported(all_trained))


def test_curves_and_rows_are_written_anew_each_epoch(tmp_path: Path):
    entry = {"class_path": "epochs.Look", "init_args": {"run": str(tmp_path / "run")}}
    run = fit(tmp_path / "run", *PART, "--callbacks", json.dumps([entry]))
    seen = json.loads((run / "seen.json").read_text())
    assert [epoch["rows"] for epoch in seen] == [0, 3, 6]
    pictures = [epoch["picture"] for epoch in seen[1:]]
    assert len({*pictures, (run / "curves.png").stat().st_size}) == 3


def test_steps_can_bound_a_run_in_the_middle_of_an_epoch(tmp_path: Path):
    flags = ("--trainer.max_epochs=-1", "--trainer.max_steps=4", "--trainer.limit_train_batches=3")
    run = fit(tmp_path / "run", *flags)
    assert checkpoint(run)["global_step"] == 4
    assert rows(run)[-1]["step"] == "3"


def test_a_run_validated_every_other_epoch_has_its_best_of_those(tmp_path: Path):
    run = fit(tmp_path / "run", *PART, "--trainer.check_val_every_n_epoch=2")
    assert len(column(run, "val/top1")) == 1
    assert checkpoint(run, "best")["epoch"] == 1
    assert checkpoint(run)["epoch"] == 2


def test_16_mixed_on_a_cpu_is_refused_in_one_line(tmp_path: Path, capsys):
    flags = (*TINY, "--trainer.precision=16-mixed", "--out", tmp_path / "run")
    message = refusal(capsys, "fit", "quickstart", *flags)
    assert message == "trainer.precision: 16-mixed on a CPU would be bf16; use bf16-mixed"
    assert not (tmp_path / "run").exists()


def test_bf16_mixed_and_activation_checkpoints_and_workers_go_together(tmp_path: Path):
    flags = ("--trainer.precision=bf16-mixed", "--net.checkpoint_blocks=2", "--data.workers=1")
    run = fit(tmp_path / "run", *flags)
    assert {t.dtype for t in exported(run).values()} == {torch.float32, torch.int64}


def test_the_first_weights_are_the_seeds_whatever_was_drawn_before(tmp_path: Path):
    still = ("--optimizer.lr=1e-30", "--optimizer.weight_decay=0")
    one = fit(tmp_path / "one", *still)
    torch.manual_seed(999)
    two = fit(tmp_path / "two", *still)
    assert torch.equal(exported(one)["conv1.weight"], exported(two)["conv1.weight"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_folders(tmp_path_factory.mktemp("pictures"), {"ant": 10, "bee": 10, "wasp": 10})


def test_a_model_is_fine_tuned_on_pictures_of_other_classes(
    held_out: Path, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    recipe = tmp_path / "tune.yaml"
    recipe.write_text(
        f"net: {{weights: {held_out / 'model'}}}\n"
        f"data: {{name: Folder, root: {pictures}, batch_size: 8, size: 16, eval_size: 16}}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}\n"
    )
    assert command("fit", recipe, "--out", tmp_path / "run") == 0
    assert "fresh head for 3 classes (the file has 10)" in caplog.text
    card = read_card(tmp_path / "run" / "model")
    assert card.labels == ("ant", "bee", "wasp")
    assert card.provenance.parent == str(held_out / "model")
    assert card.preprocess.mean == read_card(held_out / "model").preprocess.mean
    assert card.architecture.classes == 3


def test_the_head_is_fresh_where_as_many_classes_have_other_names(
    held_out: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pictures = class_folders(tmp_path / "pictures", {f"{n} of them": 5 for n in range(10)})
    recipe = tmp_path / "tune.yaml"
    recipe.write_text(
        f"net: {{weights: {held_out / 'model'}}}\n"
        f"data: {{name: Folder, root: {pictures}, batch_size: 8, size: 16, eval_size: 16}}\n"
        "optimizer: {lr: 1.0e-30, weight_decay: 0}\n"
        "trainer: {max_epochs: 1, accelerator: cpu, limit_train_batches: 2}\n"
    )
    assert command("fit", recipe, "--out", tmp_path / "run") == 0
    assert "fresh head for 10 classes (the file has others)" in caplog.text
    assert read_card(tmp_path / "run/model").labels[0] == "0 of them"
    tuned, old = exported(tmp_path / "run"), exported(held_out)
    assert torch.equal(tuned["conv1.weight"], old["conv1.weight"])
    assert not torch.equal(tuned["fc.weight"], old["fc.weight"])


def test_the_head_is_kept_where_the_classes_are_the_same(held_out: Path, tmp_path: Path, caplog):
    flags = ("--net.weights", held_out / "model", "--net.name=null", "--optimizer.lr=1e-30")
    run = fit(tmp_path / "run", *flags, "--optimizer.weight_decay=0")
    assert "fresh head" not in caplog.text
    assert torch.equal(exported(run)["fc.weight"], exported(held_out)["fc.weight"])


def test_a_training_that_diverges_is_one_line_and_exports_nothing(tmp_path: Path, capsys):
    run = tmp_path / "run"
    flags = (*PART, "--schedule", "{name: multistep, milestones: [1], gamma: 1.0e+30, warmup: 0}")
    message = refusal(capsys, "fit", "quickstart", *flags, "--out", run)
    assert message.startswith("step 5 (epoch 2): loss, gradients or statistics not finite,")
    assert not (run / "model").exists()
    assert checkpoint(run)["epoch"] == 0


def test_the_net_is_asked_for_before_any_data_is_fetched(tmp_path: Path, capsys):
    recipe = tmp_path / "no_net.yaml"
    recipe.write_text(f"data: {{name: Cifar10, root: {tmp_path}}}\ntrainer: {{max_epochs: 1}}\n")
    assert refusal(capsys, "fit", recipe, "--out", tmp_path / "run").startswith(
        "net: give net.name"
    )


def test_what_lightning_alone_refuses_is_one_line_too(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stop = "lightning.pytorch.callbacks.EarlyStopping"
    entry = {"class_path": stop, "init_args": {"monitor": "val/accuracy"}}
    flags = (*TINY, "--callbacks", json.dumps([entry]), "--out", tmp_path / "run")
    message = refusal(capsys, "fit", "quickstart", *flags)
    assert message.startswith("RuntimeError: Early stopping conditioned on metric `val/accuracy`")
    (kept,) = tmp_path.glob("resnet-hub-*.txt")
    assert f"(traceback: {kept})" in message
    assert kept.read_text().startswith("Traceback (most recent call last)")


def test_what_a_recipe_names_is_called_only_if_it_is_a_callback(tmp_path: Path, capsys):
    entry = {"class_path": "os.mkdir", "init_args": {"path": str(tmp_path / "made")}}
    flags = (*TINY, "--callbacks", json.dumps([entry]), "--out", tmp_path / "run")
    assert "it is no Lightning Callback" in refusal(capsys, "fit", "quickstart", *flags)
    assert list(tmp_path.iterdir()) == []


def test_nodes_that_nothing_leads_to_are_not_waited_for(tmp_path: Path, capsys, monkeypatch):
    for name in ("MASTER_ADDR", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    flags = (*TINY, "--trainer.num_nodes=2", "--out", tmp_path / "run")
    message = refusal(capsys, "fit", "quickstart", *flags)
    assert message.startswith("trainer.num_nodes: nothing says where the other nodes are")


def test_a_name_that_the_weights_do_not_bear_out_is_refused(held_out: Path, tmp_path, capsys):
    flags = ("--net.weights", held_out / "model", "--net.name", "resnet18")
    message = refusal(capsys, "fit", "quickstart", *flags, "--out", tmp_path / "run")
    assert "holds no resnet18" in message
    assert not (tmp_path / "run").exists()


def test_the_shortcut_option_is_the_recipes(tmp_path: Path):
    run = fit(tmp_path / "run", "--net.shortcut=B", "--net.zero_init_residual=true")
    assert "layer2.0.downsample.0.weight" in exported(run)
    assert read_card(run / "model").architecture.shortcut == "B"


def test_the_order_of_the_layers_and_the_weighing_of_the_shortcuts_are_the_recipes(tmp_path: Path):
    flags = ("--net.form=bn_after_addition", "--net.shortcut_gate=exclusive", "--net.gate_bias=-6")
    scales = ("--net.shortcut_scale=0.5", "--net.residual_scale=2", "--net.shortcut_dropout=0.5")
    run = fit(tmp_path / "run", *flags, *scales)
    net = read_card(run / "model").architecture
    assert (net.form, net.shortcut_gate) == ("bn_after_addition", "exclusive")
    assert (net.shortcut_scale, net.residual_scale) == (0.5, 2)
    bias = exported(run)["layer1.0.gate.bias"]
    assert (bias - -6).abs().max() < 1  # trained from there


def test_callbacks_and_loggers_of_anyone_come_by_class_path(tmp_path: Path):
    callbacks = [
        "lightning.pytorch.callbacks.LearningRateMonitor",
        {
            "class_path": "lightning.pytorch.callbacks.EarlyStopping",
            "init_args": {"monitor": "val/top1", "mode": "max", "stopping_threshold": 0.0},
        },
    ]
    logger = {
        "class_path": "lightning.pytorch.loggers.CSVLogger",
        "init_args": {"save_dir": str(tmp_path / "logs"), "name": "own", "version": 3},
    }
    flags = ("--callbacks", json.dumps(callbacks), "--logger", json.dumps(logger))
    run = fit(tmp_path / "run", *PART, *flags)
    assert len(column(run, "val/top1")) == 1  # stopped after the first epoch
    assert len(column(run, "lr-SGD/decayed")) == len(column(run, "lr-SGD/free")) == 3
    assert (tmp_path / "logs/own/version_3/metrics.csv").is_file()
    assert (run / "model/config.json").is_file()


@pytest.mark.parametrize(
    ("section", "entry", "message"),
    [
        ("callbacks", "lightning.pytorch.callbacks.Tmier", "Tmier cannot be made"),
        ("callbacks", "no.such.module.Timer", "no.such.module.Timer cannot be made"),
        ("callbacks", "Timer", "needs a class_path such as"),
        ("callbacks", {"init_args": {}}, "needs a class_path such as"),
        ("callbacks", {"class_path": "epochs.Look", "init_args": {"ran": "x"}}, "cannot be made"),
        ("callbacks", {"class_path": "epochs.Look", "init_args": 3}, "cannot be made"),
        (
            "callbacks",
            {
                "class_path": "lightning.pytorch.callbacks.EarlyStopping",
                "init_args": {"monitor": "val/top1", "mode": "upwards"},
            },
            "EarlyStopping cannot be made",
        ),
        ("callbacks", "collections.OrderedDict", "is no Lightning Callback"),
        ("logger", "lightning.pytorch.callbacks.Timer", "is no Lightning Logger"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_in_one_line_and_leaves_no_run(
    tmp_path: Path, capsys, section: str, entry: object, message: str
):
    flags = (*TINY, f"--{section}", json.dumps([entry]), "--out", tmp_path / "run")
    found = refusal(capsys, "fit", "quickstart", *flags)
    assert found.startswith(f"{section}: ")
    assert message in found
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--trainer.accelerator=gpu", "trainer: No supported gpu backend found!"),
        ("--trainer.max_epochs=-1", "trainer: give max_epochs or max_steps"),
        ("--trainer.val_check_interval=3", "trainer.val_check_interval: 3 batches are more than"),
        ("--trainer.max_epochs=0", "trainer: nothing to train (max_epochs, max_steps or limit"),
        ("--trainer.limit_train_batches=0", "trainer: nothing to train"),
        ("--trainer.limit_train_batches=0.001", "trainer: You requested to check 0.001 of the"),
        ("--net.name=null", "give net.name (`resnet-hub list` shows them)"),
        ("--net.weights=./nowhere", "no such folder; a model folder holds config.json"),
        ("--data.batch_size=0", "data.batch_size must be at least 1"),
        ("--data.held_out=2000", "data.held_out: 2,000 is not 0 to 1,436 training images"),
    ],
)
def test_what_only_shows_when_a_run_is_built_is_one_line_and_leaves_no_run(
    tmp_path: Path, capsys, flag: str, message: str
):
    flags = (*TINY, flag, "--out", tmp_path / "run")
    assert message in refusal(capsys, "fit", "quickstart", *flags)
    assert list(tmp_path.iterdir()) == []

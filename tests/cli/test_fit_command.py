"""``resnet-hub fit``: what it prints, where runs lie, and what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cifar_files import write_cifar
from pictures import class_folders, cut
from small_runs import TINY, checkpoint, command, environment, fit, refusal, start, untimed_rows

from resnet_hub.weights.card import read_card

DDP = ("--trainer.devices=2", "--trainer.strategy=ddp")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_without_a_terminal_it_prints_plain_lines_and_a_table(here: Path, capsys):
    assert command("fit", "quickstart", *TINY, "--trainer.max_epochs=2") == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, outline, one, two, *rest = out.splitlines()
    assert head == "run runs/quickstart/1"
    assert outline.startswith("cifar_resnet20: 269,434 parameters; 32 images a step, ")
    assert outline.endswith("effective learning rate 0.1")
    for number, line in enumerate((one, two), 1):
        assert line.startswith(f"epoch {number} ")
        for name in ("lr", "train/loss", "train/top1", "val/loss", "val/top1"):
            assert re.search(rf" {name} \d", line)
    score = read_card(here / "runs/quickstart/1/model").provenance.scores[0]
    table = "\n".join(rest)
    for part in ("Digits test, n = 360", f"{score.top1:.2%}", "runs/quickstart/1/curves.png"):
        assert part in table
    assert rest[-1] == "use it: resnet-hub predict runs/quickstart/1/model IMAGE..."
    assert "\x1b" not in out


def test_a_recipe_of_the_package_works_in_any_folder_and_its_runs_are_numbered(here: Path):
    for number in ("1", "2"):
        assert command("fit", "quickstart", *TINY) == 0
        assert (here / "runs/quickstart" / number / "model/config.json").is_file()
    assert listing(here / "runs" / "quickstart")[0] == "1"


def test_of_several_recipes_the_last_wins_and_names_the_run(here: Path):
    Path("smoothing.yaml").write_text("model: {label_smoothing: 0.25}\noptimizer: {lr: 0.01}\n")
    assert command("fit", "quickstart", "smoothing.yaml", *TINY, "--optimizer.lr=0.02") == 0
    recipe = yaml.safe_load((here / "runs/smoothing/1/recipe.yaml").read_text())
    assert recipe["model"]["label_smoothing"] == 0.25
    assert recipe["optimizer"]["lr"] == 0.02
    assert recipe["net"]["name"] == "cifar_resnet20"


def test_out_names_the_folder_as_it_is_written(here: Path, capsys):
    assert command("fit", "quickstart", *TINY, "--out", "007") == 0
    assert (here / "007/model").is_dir()
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    message = refusal(capsys, "fit", "quickstart", *TINY, "--out", "007")
    assert message == ("--out 007: is there and not empty; choose another, or --resume 007")
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


@pytest.mark.fault("W7")
@pytest.mark.parametrize("name", ["é ☃", "{step}", "new\nline", "a%41#?", "[x]*"])
def test_a_run_in_a_folder_of_any_name_is_whole_there_and_nowhere_else(here: Path, name: str):
    fit(Path(name))
    shutil.rmtree(here / name / "model")
    assert command("fit", "--resume", name) == 0
    assert [path.name for path in here.iterdir()] == [name]
    assert read_card(here / name / "model").provenance.epochs == 1
    assert checkpoint(here / name)["global_step"] == 2


@pytest.mark.fault("W7")
def test_a_folder_that_lightning_would_take_for_an_address_is_refused(here: Path, capsys):
    assert "'::' in a path" in refusal(capsys, "fit", "quickstart", *TINY, "--out=a::b")
    assert listing(here) == []


def test_a_data_set_is_named_by_a_bare_word_and_found_by_its_root(here: Path, capsys):
    write_cifar(here / "sets", count=8)
    flags = ("--data", "Cifar10", "--data.root", "sets", "--data.download", "false")
    augment = ("--data.augment=pad_crop_flip", "--data.held_out=0", "--data.batch_size=8")
    assert command("fit", "quickstart", *TINY, *flags, *augment, "--out=run") == 0
    card = read_card(here / "run/model")
    assert card.labels[:2] == ("airplane", "automobile")
    (score,) = card.provenance.scores
    assert (score.data, score.n) == ("CIFAR-10 (other files) test", 8)


def test_training_goes_on_though_nobody_reads_its_lines(here: Path):
    reader, writer = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "resnet_hub.cli", "fit", "quickstart", *TINY, "--out=run"],
        cwd=here,
        env=environment(),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writer)
        os.close(reader)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert err == ""
    assert (here / "run/model/config.json").is_file()


def test_nothing_is_said_of_a_run_that_is_not_left(here: Path, capsys):
    assert command("fit", "quickstart", *TINY, "--data=Folder", "--data.root=nowhere") == 1
    assert capsys.readouterr().out == ""


def test_help_and_no_recipe(here: Path, capsys):
    assert command("fit") == 0
    assert command("fit", "quickstart", "--help") == 0
    assert "usage: resnet-hub fit RECIPE" in capsys.readouterr().out
    assert "which recipe?" in refusal(capsys, "fit", "--seed=1")
    assert listing(here) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--net=cifar_resnet21"], "--net: net.name: no net is called 'cifar_resnet21'; did you"),
        (["--net.nam=resnet18"], "--net.nam: unknown key 'net.nam'; did you mean 'name'?"),
        (["--data=Cifar10", "--data.download=false", "--data.root=sets"], "CIFAR-10: there is no"),
        (["--data=Folder", "--data.root=sets"], "Folder: there is no folder sets"),
        (["--data=ImageNet", "--data.root=sets"], "sets"),
        (["--net.weights=./nowhere", "--net.name=null"], "'nowhere': no such folder"),
        (["--data.augment=resized_crop_flip"], "data.augment: "),
        (["--net.name=cifar_plain20", "--net.shortcut=B"], "shortcut: a plain net has none"),
        (["--out"], "--out: needs a value"),
    ],
)
def test_a_refused_recipe_or_data_set_is_one_line_and_leaves_nothing(
    here: Path, capsys, flags: list[str], message: str
):
    assert message in refusal(capsys, "fit", "quickstart", *TINY, *flags)
    assert listing(here) == []


@pytest.mark.fault("D1")
def test_a_broken_picture_is_named_and_no_run_is_left_of_its_first_epoch(here: Path, capsys):
    class_folders(here / "train", {"ant": 6, "bee": 6})
    class_folders(here / "val", {"ant": 2, "bee": 2})
    cut(here / "train/bee/3.png")
    flags = ("--data={name: Folder, root: ., augment: none, batch_size: 4, eval_size: 16}",)
    whole = ("--trainer.limit_train_batches=1.0", "--trainer.log_every_n_steps=50")
    before = listing(here)
    message = refusal(capsys, "fit", "quickstart", *TINY, *whole, *flags)
    assert message.startswith("train/bee/3.png: ")
    assert listing(here) == before


def test_folders_without_pictures_are_refused(here: Path, capsys):
    for name in ("train/ant", "train/bee", "val/ant", "val/bee"):
        (here / "pictures" / name).mkdir(parents=True)
    (here / "empty").mkdir()
    before = listing(here)
    for name in ("empty", "pictures"):
        message = refusal(
            capsys, "fit", "quickstart", *TINY, f"--data={{name: Folder, root: {name}}}"
        )
        assert name in message
    assert listing(here) == before


def test_damaged_weights_to_begin_from_are_refused(here: Path, tmp_path: Path, capsys):
    run = fit(tmp_path / "run")
    weights = run / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    flags = ("--net.weights", run / "model", "--net.name=null")
    message = refusal(capsys, "fit", "quickstart", *TINY, *flags)
    assert message.startswith(f"{weights}: damaged")
    assert listing(here) == []


def test_a_run_that_is_resumed_in_vain_stays(here: Path, capsys):
    fit(here / "run")
    shutil.rmtree(here / "run/model")
    recipe = here / "run/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: Digits", "name: ImageNet"))
    before = listing(here)
    refusal(capsys, "fit", "--resume", "run")
    assert listing(here) == before


@pytest.mark.slow
def test_two_processes_leave_one_run_and_resume_bit_for_bit(here: Path):
    flags = (*TINY, *DDP, "--trainer.max_epochs=2", "--trainer.limit_train_batches=15")
    entry = {
        "class_path": "interruption.SignalAt",
        "init_args": {"mark": str(here / "mark"), "signal": "SIGTERM", "batch": 17},
    }
    stopped = ("--callbacks", json.dumps([entry]))
    for arguments, code in (
        (("fit", "quickstart", *flags, "--out=whole"), 0),
        (("fit", "quickstart", *flags, *stopped, "--out=run"), 143),
        (("fit", "--resume=run"), 0),
    ):
        with start(*arguments, cwd=here) as process:
            out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
    assert "use it: " in out
    assert out.count("run run\n") == 1
    assert untimed_rows(here / "run") == untimed_rows(here / "whole")
    weights = "model/model.safetensors"
    assert (here / "run" / weights).read_bytes() == (here / "whole" / weights).read_bytes()
    assert checkpoint(here / "run")["global_step"] == 30
    (score,) = read_card(here / "run/model").provenance.scores
    assert score.n == 360


@pytest.mark.slow
def test_where_one_process_meets_a_broken_picture_all_end_and_one_line_says_why(here: Path):
    class_folders(here / "pictures/train", {"ant": 8, "bee": 8})
    class_folders(here / "pictures/val", {"ant": 2, "bee": 2})
    cut(here / "pictures/train/bee/3.png")
    data = "--data={name: Folder, root: pictures, augment: none, batch_size: 4, eval_size: 16}"
    with start("fit", "quickstart", *TINY, *DDP, data, "--out=run", cwd=here) as process:
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("resnet-hub: ")]
    assert sum(line.startswith("resnet-hub: pictures/train/bee/3.png: ") for line in lines) == 1
    assert len(lines) <= 2


@pytest.mark.slow
def test_processes_that_torchrun_started_share_one_run(here: Path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    module = ["--standalone", "-m", "resnet_hub.cli", "fit", "quickstart", *TINY, *DDP]
    done = subprocess.run(
        [*torchrun, *module],
        cwd=here,
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (here / "runs/quickstart").iterdir()] == ["1"]
    assert done.stdout.count("use it: ") == 1

"""``resnet-hub test``: scores of models and runs."""

import csv
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from cifar_files import write_cifar
from disks import files_of_at_most
from pictures import class_folders
from PIL import Image
from small_runs import command, fit, refusal, start

from resnet_hub.data.digits import Digits
from resnet_hub.evaluation.calibration import fit_temperature
from resnet_hub.learning.saving.checkpoints import numbered
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache
from resnet_hub.weights.card import read_card
from resnet_hub.weights.provenance import Provenance

DDP = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("--trainer.limit_train_batches=30", "--schedule.warmup=0")
    return fit(tmp_path_factory.mktemp("runs") / "run", *flags)


def scored(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    assert command("test", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return without_speed(out)


def without_speed(out: str) -> dict:
    """What is told, but for the pace, which no two measurements agree in, and what ran."""
    found = json.loads(out)
    assert "cpu" in found.pop("hardware")
    assert found.pop("images_per_s") is None or found["n"] > 0
    return found


def test_a_run_is_scored_on_the_data_of_its_recipe(run: Path, capsys):
    (score,) = read_card(run / "model").provenance.scores
    expected = {"data": "Digits test", "top1": score.top1, "top5": score.top5, "n": 360}
    found = scored(capsys, run)
    assert {name: found[name] for name in expected} == expected
    assert found["recorded"] is True
    assert 0.1 < score.top1 < score.top5 <= 1


def test_a_checkpoint_is_scored_on_the_data_of_its_recipe(run: Path, tmp_path: Path, capsys):
    _, checkpoint = numbered(run / "checkpoints", "step")[0]
    alone = shutil.copytree(checkpoint, tmp_path / "alone")
    before = {path.name: path.read_bytes() for path in alone.iterdir()}
    assert command("export", alone, tmp_path / "model") == 0
    capsys.readouterr()
    found = []
    for arguments in ((alone,), (tmp_path / "model", "--data=Digits")):
        assert command("test", *arguments, "--json") == 0
        found.append(without_speed(capsys.readouterr().out))
    assert found[0].pop("recorded") is False
    assert found[1].pop("recorded") is True
    assert found[0] == found[1]
    assert {path.name: path.read_bytes() for path in alone.iterdir()} == before
    assert command("test", alone) == 0
    assert "not recorded: a checkpoint has no card" in capsys.readouterr().out


def test_a_model_folder_is_scored_on_the_data_that_is_named(run: Path, capsys):
    own = scored(capsys, run)
    assert scored(capsys, run / "model", "--data=Digits") == own
    assert scored(capsys, run / "model", "--data=Digits", "--data.batch_size=7") == own


def test_the_score_that_fit_measured_has_the_receipt_that_test_gives_it(run: Path, capsys):
    before = (run / "model/config.json").read_bytes()
    (score,) = read_card(run / "model").provenance.scores
    receipt = scored(capsys, run)["receipt"]
    assert receipt == json.loads(json.dumps(asdict(score.receipt)))
    assert (run / "model/config.json").read_bytes() == before


def test_people_get_the_score_and_where_it_was_written(run: Path, capsys):
    assert command("test", run) == 0
    score = read_card(run / "model").provenance.scores[0]
    expected = f"Digits test: top-1 {score.top1:.2%}, top-5 {score.top5:.2%}, n = 360\n"
    *told, last = capsys.readouterr().out.splitlines(keepends=True)
    assert told[0] == expected
    assert told[1].startswith(f"top-1 error {1 - score.top1:.2%} (")
    assert last == f"recorded in {run / 'model'}\n"


def test_the_runs_trainer_options_are_not_taken_but_the_flags_are(run: Path, tmp_path, capsys):
    other = Path(shutil.copytree(run, tmp_path / "run"))
    recipe = other / "recipe.yaml"
    text = recipe.read_text().replace("accelerator: cpu", "accelerator: gpu\n  devices: 8")
    recipe.write_text(text)
    assert "devices: 8" in text
    assert scored(capsys, other, "--trainer.accelerator=cpu") == scored(capsys, run)
    message = refusal(capsys, "test", run, "--trainer.accelerator=gpu")
    assert message.startswith("trainer: No supported gpu backend found!")


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Path:
    """A model folder of its own, with a licence and without a score."""
    net = ResNet.from_pretrained(run / "model")
    net.save_pretrained(tmp_path / "model", provenance=Provenance(licence="MIT"))
    return tmp_path / "model"


def test_a_new_score_is_written_into_the_card(model: Path, run: Path, capsys):
    found = scored(capsys, model, "--data=Digits")
    (score,) = read_card(model).provenance.scores
    told = {**json.loads(json.dumps(asdict(score))), "recorded": True}
    assert {name: found[name] for name in told} == told
    assert read_card(run / "model").provenance.scores == (score,)
    half = scored(capsys, model, "--data=Digits", "--trainer.precision=bf16-mixed")
    assert [s.receipt.precision for s in read_card(model).provenance.scores] == [
        "32-true",
        half["receipt"]["precision"],
    ]
    assert read_card(model).provenance.licence == "MIT"


def test_nothing_is_written_of_a_part_or_where_it_is_not_wanted(model: Path, capsys):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    part = scored(capsys, model, "--data=Digits", "--trainer.limit_test_batches=1")
    assert (part["n"], part["receipt"], part["recorded"]) == (128, None, False)
    assert scored(capsys, model, "--data=Digits", "--no-record")["recorded"] is False
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert command("test", model, "--data=Digits", "--trainer.limit_test_batches=1") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "not recorded: trainer.limit_test_batches left images out"


def test_a_folder_that_takes_no_writing_is_scored_all_the_same(model: Path, capsys):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    torch.set_num_threads(1)
    assert scored(capsys, model, "--data=Digits", "--no-record")["n"] == 360  # all is imported
    with files_of_at_most(100):
        found = scored(capsys, model, "--data=Digits")
    assert (found["n"], found["recorded"]) == (360, False)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_what_the_cache_holds_is_not_written_to(model: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    held = Path(shutil.copytree(model, cache.root() / "published" / "net"))
    assert scored(capsys, held, "--data=Digits")["recorded"] is False
    assert read_card(held).provenance.scores == ()


@pytest.fixture(scope="module")
def digit_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 50 test digits as pictures in class folders."""
    root = tmp_path_factory.mktemp("digits")
    data = Digits()
    data.open()
    batch = next(iter(data.test_dataloader()))
    for number in range(10):
        (root / "val" / str(number)).mkdir(parents=True)
    for number in range(50):
        path = root / "val" / str(int(batch.labels[number])) / f"{number}.png"
        Image.fromarray(batch.images[number, 0].numpy()).save(path)
    return root


def test_a_run_is_scored_on_other_data_without_its_recipes_data_settings(
    run: Path, digit_pictures: Path, tmp_path: Path, capsys
):
    run = Path(shutil.copytree(run, tmp_path / "run"))
    # The recipe's augmentation, for one, is of no use to a folder of pictures.
    flags = ("--data=Folder", f"--data.root={digit_pictures}")
    found = scored(capsys, run, *flags)
    assert (found["data"], found["n"]) == ("Folder val", 50)
    assert found == scored(capsys, run / "model", *flags)
    assert [s.data for s in read_card(run / "model").provenance.scores] == [
        "Digits test",
        "Folder val",
    ]
    net, right = ResNet.from_pretrained(run / "model"), 0
    for path in digit_pictures.rglob("*.png"):
        logits = net(net.preprocess(Image.open(path))[None])
        right += int(logits.argmax()) == int(path.parent.name)
    assert found["top1"] == right / 50


def test_the_runs_own_data_keeps_its_settings_where_it_is_named_again(run: Path, capsys):
    assert scored(capsys, run, "--data=Digits") == scored(capsys, run)


def test_the_seed_tells_which_pictures_are_held_out(tmp_path: Path, capsys):
    class_folders(tmp_path / "pictures", {"ant": 40, "bee": 40})
    ResNet("cifar_resnet20", classes=2).save_pretrained(tmp_path / "model")
    flags = ("--data=Folder", f"--data.root={tmp_path / 'pictures'}", "--data.eval_size=16")
    found = [scored(capsys, tmp_path / "model", *flags, f"--seed={seed}") for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert {score["n"] for score in found} == {16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], None),
        (["a", "b", "--data=Digits"], "'a': neither a folder here nor the name of weights"),
        (["--data=Digits"], "needs one model folder or run"),
        (["RUN/model"], "a model needs --data NAME"),
        (["resnet50"], "a model needs --data NAME"),
        (["org/net"], "a model needs --data NAME"),
        (["./nowhere", "--data=Digits"], "nowhere': no such folder"),
        (["resnet51", "--data=Digits"], "did you mean 'resnet50'?"),
        (["./nowhere"], "./nowhere: no such folder"),
        (["resnet51"], "did you mean 'resnet50'?"),
        (["~nobody-here/model"], "~nobody-here/model: there is no home of a user 'nobody-here'"),
        (["RUN", "--optimizer.lr=1"], "--optimizer: test takes --data…, --trainer…, --confusion"),
        (["RUN", "--seed=7"], "--seed: the run's own says which images it held out"),
        (["RUN", "--data=3"], "data.name: Expected a Literal"),
        (["RUN", "--trainer=3"], "trainer is a section of keys"),
        (["RUN", "--trainer.logger=true"], "trainer.logger is set by the run"),
        (["RUN", "--trainer.precision=16-mixed"], "16-mixed on a CPU would be bf16"),
        (
            ["RUN/model", "--data=Cifar10", "--data.root=X", "--data.download=false"],
            "there is no X",
        ),
        (["RUN/model", "--data=Folder", "--data.root=X"], "there is no folder X"),
        (["RUN/model", "--data=ImageNet", "--data.root=X"], "X"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(
    run: Path, capsys, arguments: list[str], message: str | None
):
    arguments = [argument.replace("RUN", str(run)) for argument in arguments]
    if message is None:
        assert command("test", *arguments) == 0  # help
        assert "usage: resnet-hub test" in capsys.readouterr().out
    else:
        assert message in refusal(capsys, "test", *arguments)


def test_a_folder_without_pictures_is_refused(run: Path, tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "two"):
        message = refusal(
            capsys, "test", run / "model", "--data=Folder", f"--data.root={tmp_path / name}"
        )
        assert str(tmp_path / name) in message
        (tmp_path / "two" / "ant").mkdir(parents=True, exist_ok=True)
        (tmp_path / "two" / "bee").mkdir(parents=True, exist_ok=True)


def test_a_model_of_three_classes_is_not_scored_on_ten(tmp_path: Path, capsys):
    ResNet("cifar_resnet20", classes=3, in_channels=1).save_pretrained(tmp_path / "three")
    message = refusal(capsys, "test", tmp_path / "three", "--data=Digits")
    assert message == "net: 3 classes, but Digits has 10"


def test_a_model_of_other_classes_is_not_scored_though_their_number_is_the_same(
    run: Path, tmp_path: Path, capsys
):
    class_folders(tmp_path / "val", {f"{n} of them": 1 for n in range(10)})
    flags = ("--data=Folder", f"--data.root={tmp_path}", "--data.workers=0")
    message = refusal(capsys, "test", run / "model", *flags)
    assert message.startswith("net: its class 0 is '0', but Folder's is '0 of them'")


def test_a_model_for_colours_is_not_scored_on_grey_digits(tmp_path: Path, capsys):
    ResNet("cifar_resnet20").save_pretrained(tmp_path / "colours")
    refusal(capsys, "test", tmp_path / "colours", "--data=Digits")


def test_a_run_without_its_model_yet_is_refused(run: Path, tmp_path: Path, capsys):
    other = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(other / "model")
    message = refusal(capsys, "test", other)
    assert message.startswith(f"{other}: the run has no model/ yet; finish it by `resnet-hub fit")


def test_a_copy_of_cifar_is_read_and_said_to_be_one(tmp_path: Path, capsys):
    write_cifar(tmp_path)
    ResNet("cifar_resnet20").save_pretrained(tmp_path / "model")
    assert command("test", tmp_path / "model", f"--data={{name: Cifar10, root: {tmp_path}}}") == 0
    assert capsys.readouterr().out.startswith("CIFAR-10 (other files) test: top-1 ")


def test_two_processes_print_one_object_and_count_every_image_once(
    run: Path, tmp_path: Path, capsys
):
    with start("test", run, "--json", *DDP, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0
    # Older torch lets Gloo announce its connections, from two processes at once.
    assert not [line for line in err.splitlines() if line and "peer ranks" not in line]
    assert out.count("\n") == 1
    assert without_speed(out) == scored(capsys, run)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_processes_with_fewer_images_or_none_count_every_image_once(
    tmp_path: Path, capsys, count: int
):
    write_cifar(tmp_path, count=count)
    ResNet("cifar_resnet20").save_pretrained(tmp_path / "model")
    data = ("--data=Cifar10", f"--data.root={tmp_path}", "--data.batch_size=1")
    with start("test", "./model", "--json", *data, *DDP, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    found = without_speed(out)
    assert found["n"] == count
    assert found == scored(capsys, tmp_path / "model", *data)  # to the bit, by the receipt


def test_errors_and_what_is_asked_for_beside_them_are_those_of_the_logits(
    run: Path, tmp_path: Path, capsys
):
    files = {"confusion": tmp_path / "confusion.png", "predictions": tmp_path / "answers.csv"}
    flags = [f"--{name}={path}" for name, path in files.items()]
    found = scored(capsys, run, "--per-class", *flags)
    assert found["top1_error"]["value"] == pytest.approx(1 - found["top1"])
    assert found["top1_error"]["low"] < 1 - found["top1"] < found["top1_error"]["high"]
    confusion = torch.tensor(found["confusion"])
    assert int(confusion.diagonal().sum()) == round(360 * found["top1"])
    assert [row["n"] for row in found["per_class"]] == confusion.sum(1).tolist()
    with Image.open(files["confusion"]) as picture:
        assert min(picture.size) >= 500
    with files["predictions"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(360))
    assert sum(int(row["right"]) for row in rows) == int(confusion.diagonal().sum())
    net, data = ResNet.from_pretrained(run / "model"), Digits()
    batch = next(iter(data.open().test_dataloader()))
    chances = net(net.preprocess.normalise(batch.images[:9])).softmax(1).detach()
    for row, chance, label in zip(rows, chances, batch.labels, strict=False):
        best = int(chance.argmax())
        assert (row["class"], row["answer"]) == (str(int(label)), str(best))
        assert float(row["probability"]) == pytest.approx(float(chance[best]), abs=1e-5)
    assert command("test", run, "--per-class", "--no-record") == 0
    assert len(capsys.readouterr().out.splitlines()) == 6 + (1 + 10) + 1


def test_a_temperature_is_fitted_on_the_runs_own_validation_split_and_kept(
    run: Path, tmp_path: Path, capsys
):
    own = Path(shutil.copytree(run, tmp_path / "run"))
    found = scored(capsys, own, "--calibrate")["temperature"]
    assert (found["fitted_on"], found["n"]) == ("validation", 180)
    assert read_card(own / "model").temperature == found["value"]
    net, data = ResNet.from_pretrained(own / "model"), Digits()
    batch = next(iter(data.open().val_dataloader()))
    assert net.temperature == found["value"]
    assert len(batch.labels) == 128
    logits = torch.cat(
        [net(net.preprocess.normalise(b.images)).detach() for b in data.val_dataloader()]
    )
    assert fit_temperature(logits, data.split("val").targets) == pytest.approx(
        found["value"], rel=1e-4
    )
    again = scored(capsys, own / "model", "--data=Digits")["temperature"]
    assert again["fitted_on"] == "tested"  # of a folder alone nobody knows what it was trained on
    assert read_card(own / "model").temperature == found["value"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--calibrate", "--no-record"], "--calibrate: writes into the folder"),
        (["--confusion=x.pdf"], "x.pdf: ends in neither .png nor .svg"),
        (["--predictions=."], ".: is a folder; name a file"),
        (["--real=nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_what_cannot_be_written_or_read_is_refused_before_the_images_are(
    run: Path, capsys, flags: list[str], message: str
):
    assert message in refusal(capsys, "test", run, *flags)

"""``resnet-hub probe``: what it prints, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import pytest
from pictures import class_folders
from small_runs import command, fit, flip_last_bit, refusal

from resnet_hub.evaluation import linear
from resnet_hub.learning.saving.checkpoints import numbered
from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache, outputs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("--trainer.limit_train_batches=30", "--schedule.warmup=0")
    return fit(tmp_path_factory.mktemp("runs") / "run", *flags)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(linear, "_STEPS", 20)  # the optimum is no matter here


def probed(capsys, *arguments: object) -> dict:
    capsys.readouterr()
    assert command("probe", *arguments, "--json") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("\n") == 1
    return json.loads(out)


def test_a_run_its_model_and_its_checkpoint_are_probed_alike(run: Path, tmp_path: Path, capsys):
    found = probed(capsys, run)
    assert found["model"] == str(run / "model")
    assert (found["data"], found["n"], found["training_n"]) == ("Digits test", 360, 1257)
    assert (found["k"], found["temperature"], found["seed"]) == (20, 0.07, 0)
    assert found["classes"] == list("0123456789")
    assert found["l2"]["l2"] in [l2 for l2, _ in found["l2"]["tried"]]
    assert found["from_cache"] is False
    for kind in ("linear", "knn", "knn_plain"):
        low, high = found[kind]["top1_interval"]
        assert 0.6 < low < found[kind]["top1"] < high <= 1
    again = probed(capsys, run / "model", "--data", "Digits")
    assert again == {**found, "from_cache": True}
    _, checkpoint = numbered(run / "checkpoints", "step")[0]
    alone = shutil.copytree(checkpoint, tmp_path / "alone")
    assert probed(capsys, alone) == {**again, "model": str(alone)}


def test_people_get_the_scores_with_intervals_and_how_they_came(run: Path, capsys):
    facts = probed(capsys, run, "--k", "5")
    assert command("probe", run, "--k", "5") == 0
    lines = capsys.readouterr().out.splitlines()
    many = "64 features an image (kept from before), of 1,257 training images"
    assert lines[0] == f"Digits test, n = 360: {many}"
    for line, kind in zip(lines[1:4], ("linear", "knn", "knn_plain"), strict=True):
        accuracy = facts[kind]
        low, high = accuracy["top1_interval"]
        assert f"top-1 {accuracy['top1']:.2%} ({low:.2%} to {high:.2%}), top-5 " in line
    assert lines[1].startswith("linear probe  ")
    assert lines[1].endswith(f"L2 {facts['l2']['l2']:g}, chosen on 251 held-out training images")
    assert lines[2].endswith("k = 5, temperature 0.07")
    assert lines[3].endswith("k = 5")
    assert lines[4] == "intervals: Wilson's, 95%; classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


def test_what_is_kept_is_listed_made_again_where_damaged_and_cleared(run: Path, capsys):
    first = probed(capsys, run)
    assert command("cache", "list") == 0
    listed = capsys.readouterr().out
    assert re.findall(r"outputs:[0-9a-f]{12}  \((.*)\)", listed)[0].startswith(
        "features of cifar_resnet20 for Digits t"
    )
    flip_last_bit(outputs.entries()[0].folder / "outputs.safetensors")
    assert probed(capsys, run) == first  # from_cache is False again
    assert probed(capsys, run) == {**first, "from_cache": True}
    assert command("cache", "clear", "outputs") == 0
    assert outputs.entries() == []
    assert probed(capsys, run) == first


def test_neighbours_temperature_and_seed_are_taken(run: Path, capsys):
    own = probed(capsys, run)
    other = probed(capsys, run, "--k=3", "--temperature=0.5", "--seed=4")
    assert (other["k"], other["temperature"], other["seed"]) == (3, 0.5, 4)
    assert other["l2"]["tried"] != own["l2"]["tried"]
    assert other["from_cache"] is True


def test_any_classes_of_pictures_are_probed_and_nothing_of_the_model_changes(
    tmp_path: Path, capsys
):
    class_folders(tmp_path / "pictures", {"ant": 12, "bee": 9, "cat": 1, "gnu": 6})
    ResNet("cifar_resnet20", classes=2).save_pretrained(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    flags = ("--data=Folder", f"--data.root={tmp_path / 'pictures'}", "--data.eval_size=16")
    leave = "--data.classes=[ant, bee, gnu]"
    found = probed(capsys, tmp_path / "model", *flags, leave, "--data.held_out=6")
    assert (found["data"], found["n"], found["training_n"]) == ("Folder val", 6, 21)
    assert found["classes"] == ["ant", "bee", "gnu"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


def test_a_name_that_the_cache_holds_is_probed(run: Path, capsys):
    ResNet.from_pretrained(run / "model").save_pretrained(cache.published("cifar_resnet20.own"))
    held = cache.published("cifar_resnet20.own")
    assert probed(capsys, held, "--data=Digits")["n"] == 360


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b", "--data=Digits"], "probe: needs one model folder or run"),
        (["RUN/model"], "probe: a model needs --data NAME"),
        (["./nowhere"], "./nowhere: no such folder"),
        (["resnet51", "--data=Digits"], "did you mean 'resnet50'?"),
        (["RUN", "--optimizer.lr=1"], "--optimizer: probe takes --data…, --trainer…, --k, --tempe"),
        (["RUN", "--no-record"], "--no-record: needs a value"),
        (["RUN", "--k=many"], "--k: 'many' is no whole number"),
        (["RUN", "--k=2.5"], "--k: '2.5' is no whole number"),
        (["RUN", "--k.x=2"], "--k: {'x': 2} is no whole number"),
        (["RUN", "--k=0"], "k: 0 neighbours cannot vote"),
        (["RUN", "--temperature=warm"], "--temperature: 'warm' is no number"),
        (["RUN", "--temperature=-1"], "temperature: -1 is not above 0"),
        (["RUN", "--data=3"], "data.name: Expected a Literal"),
        (["RUN", "--data.nam=Digits"], "did you mean 'name'?"),
        (["RUN", "--trainer.limit_test_batches=1"], "trainer.limit_test_batches: has no effect"),
        (["RUN", "--trainer.devices=2", "--trainer.accelerator=cpu"], "trainer.devices: 2 proc"),
        (["RUN", "--trainer.precision=16-mixed"], "16-mixed on a CPU would be bf16"),
        (["RUN/model", "--data=Folder", "--data.root=X"], "there is no folder X"),
    ],
)
def test_what_cannot_be_probed_is_refused_in_one_line(
    run: Path, capsys, arguments: list[str], message: str
):
    arguments = [argument.replace("RUN", str(run)) for argument in arguments]
    assert message in refusal(capsys, "probe", *arguments)
    assert outputs.entries() == []


def test_a_model_for_colours_is_not_probed_on_grey_digits(tmp_path: Path, capsys):
    ResNet("cifar_resnet20").save_pretrained(tmp_path / "colours")
    refusal(capsys, "probe", tmp_path / "colours", "--data=Digits")


def test_pictures_without_training_images_are_refused(tmp_path: Path, capsys):
    class_folders(tmp_path / "pictures/val", {"ant": 2, "bee": 2})
    ResNet("cifar_resnet20", classes=2).save_pretrained(tmp_path / "model")
    flags = ("--data=Folder", f"--data.root={tmp_path / 'pictures'}")
    message = refusal(capsys, "probe", tmp_path / "model", *flags)
    assert message.startswith("Folder: no train images in ")


def test_a_run_without_its_model_yet_is_refused(run: Path, tmp_path: Path, capsys):
    other = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.rmtree(other / "model")
    message = refusal(capsys, "probe", other)
    assert message.endswith("or `resnet-hub export` what it has and probe that")

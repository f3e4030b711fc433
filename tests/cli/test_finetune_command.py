"""``resnet-hub finetune``: a look, a recipe, a run, and what may be done with it."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from loopback_hub import LoopbackHub
from pictures import class_folders, cut, pattern, save
from small_runs import command, refusal, untimed_rows

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache
from resnet_hub.weights.card import read_card

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
FLAGS = ("--from=./net", "--epochs=1", "--data.workers=0", "--trainer.accelerator=cpu")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures of two classes in three splits, and a small net's folder."""
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "my pets/train", {"ant": 5, "bee": 5})
    for place, split in enumerate(("val", "test")):
        for number, name in enumerate(("ant", "bee")):
            picture = pattern(seed=90 + 2 * place + number)
            save(tmp_path / "my pets" / split / name / "a b.png", picture)
    ResNet("cifar_resnet20", classes=2).save_pretrained(tmp_path / "net")
    return tmp_path


def printed(out: str, beginning: str) -> list[str]:
    """Return the indented lines below one of the printed headings."""
    below = out.partition(f"\n{beginning}")[2].splitlines()[1:]
    lines = []
    for line in below:
        if not line.startswith("  "):
            break
        lines.append(line.strip())
    return lines


def test_one_command_does_all_and_what_it_prints_runs(here: Path, capsys, caplog):
    assert command("finetune", "my pets", *FLAGS) == 0
    out = capsys.readouterr().out
    assert caplog.text.count("fresh head for 2 classes") == 1
    assert "my pets: 2 classes, 14 pictures (train 10, val 2, test 2)" in out
    assert "repeated  none, byte for byte" in out
    run, recipe = here / "runs/finetune_my_pets/1", here / "finetune_my_pets.yaml"
    card = read_card(run / "model")
    assert card.labels == ("ant", "bee")
    (score,) = card.provenance.scores
    assert (score.data, score.n) == ("Folder test", 2)
    assert "the score is that of test, which chose nothing" in out
    assert yaml.safe_load((run / "recipe.yaml").read_text())["net"]["fresh_head"] is True

    (predict,) = printed(out, "use it:")
    assert command(*shlex.split(predict)[1:]) == 0
    assert "a b.png" in capsys.readouterr().out
    exec("\n".join(printed(out, "in Python:")), {})
    assert capsys.readouterr().out.strip() in ("ant", "bee")
    names: dict = {}
    exec("\n".join(printed(out, "by torch.hub:")), names)
    assert names["net"].labels == ("ant", "bee")

    again, resume = printed(out, "train again")
    assert shlex.split(again) == ["resnet-hub", "fit", recipe.name]
    assert command(*shlex.split(again)[1:]) == 0
    other = here / "runs/finetune_my_pets/2"
    assert (other / "recipe.yaml").read_text() == (run / "recipe.yaml").read_text()
    assert untimed_rows(other) == untimed_rows(run)
    assert command(*shlex.split(resume)[1:]) == 0


def test_every_key_that_is_chosen_for_the_folder_says_why(here: Path, capsys):
    assert command("finetune", "my pets", *FLAGS[:1], "--dry-run") == 0
    out = capsys.readouterr().out
    assert re.search(r"^steps +2 an epoch × 50 = 100 in all", out, re.MULTILINE)
    assert not (here / "runs").exists()
    text = (here / "finetune_my_pets.yaml").read_text()
    for key in ("eval_size", "batch_size", "workers", "scale", "lr", "layer_decay", "norms"):
        assert re.search(rf"^  {key}: .* # \w", text, re.MULTILINE), key
    assert max(map(len, text.splitlines())) <= 100
    assert command("recipe", "lint", "finetune_my_pets.yaml") == 0
    assert capsys.readouterr().out == "finetune_my_pets.yaml: nothing to say\n"


def test_a_recipe_that_says_otherwise_is_not_overwritten(here: Path, capsys):
    assert command("finetune", "my pets", *FLAGS, "--dry-run") == 0
    path = here / "finetune_my_pets.yaml"
    mine = path.read_text().replace("momentum: 0.9", "momentum: 0.8")
    assert command("finetune", "my pets", *FLAGS, "--dry-run") == 0  # the same is no conflict
    path.write_text(mine)
    capsys.readouterr()
    assert command("finetune", "my pets", *FLAGS) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "finetune_my_pets.yaml: is there and says otherwise; train by it (resnet-hub fit" in err
    assert path.read_text() == mine
    assert not (here / "runs").exists()
    assert command("finetune", "my pets", *FLAGS, "--dry-run", "--recipe=other.yaml") == 0
    assert "Command   resnet-hub fit other.yaml" in (here / "other.yaml").read_text()


def test_damage_is_told_and_left_out_and_repeated_pictures_are_a_warning(here: Path, capsys):
    cut(here / "my pets/train/ant/0.png")
    shutil.rmtree(here / "my pets/test")
    shutil.copy(here / "my pets/train/bee/1.png", here / "my pets/val/bee/twin.png")
    assert command("finetune", "my pets", *FLAGS, "--out=run") == 0
    out = capsys.readouterr().out
    assert "damage    not to be read, and left out: 1" in out
    assert "repeated  in two splits, so that scores will be too good: 1" in out
    assert re.search(r"^damaged: my pets/train/ant/0.png: \S", out, re.MULTILINE)
    assert re.search(r"^warning: my pets/val/bee/twin.png: in val as 'bee'", out, re.MULTILINE)
    assert "by which the best epoch was chosen: it is optimistic" in out
    assert "1 of its pictures are in another split too, so it is too good" in out
    recipe = yaml.safe_load((here / "finetune_my_pets.yaml").read_text())
    assert recipe["data"]["on_bad_image"] == "skip"
    assert read_card(here / "run/model").labels == ("ant", "bee")


@pytest.mark.parametrize("weights", ["me/net", "resnet50"])
def test_any_weights_of_a_hub_are_what_it_begins_from(
    here: Path, capsys, monkeypatch, weights: str
):
    monkeypatch.setenv("TORCH_HOME", str(here / "torch"))
    ResNet("resnet50").save_pretrained(cache.published("resnet50.tv_v2"))
    with LoopbackHub() as hub:
        hub.attach(monkeypatch, here / "hf")
        hub.add("me/net", {path.name: path.read_bytes() for path in (here / "net").iterdir()})
        own = () if weights == "resnet50" else (f"--from={weights}",)  # resnet50 is the default
        assert command("finetune", "my pets", *own, *FLAGS[1:], "--out=run") == 0
    card = read_card(here / "run/model")
    assert card.name == {"me/net": "cifar_resnet20", "resnet50": "resnet50"}[weights]
    assert card.provenance.recipe["net"]["weights"] == weights
    assert card.labels == ("ant", "bee")


def test_weights_of_one_channel_read_pictures_as_grey(here: Path, capsys):
    ResNet("cifar_resnet20", classes=("x", "y"), in_channels=1).save_pretrained(here / "grey")
    assert command("finetune", "my pets", "--from=grey", *FLAGS[1:], "--out=run") == 0
    assert "the weights take grey pictures, so colours are left out" in capsys.readouterr().out
    assert read_card(here / "run/model").architecture.in_channels == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my pets", "more"], "finetune: needs one folder"),
        (["nowhere"], "there is no folder nowhere"),
        (["net"], "no class folders in net"),
        (["my pets/train/ant"], "no class folders"),
        (["my pets", "--from=resnet51"], "'resnet51': neither a folder here nor the name of"),
        (["my pets", "--from=plain18"], "plain18: no published weights are known"),
        (["my pets", "--from=./nowhere"], "'nowhere': no such folder"),
        (["my pets", "--epochs=0"], "--epochs: 0 is no number of epochs, 1 to 100,000"),
        (["my pets", "--epochs=many"], "--epochs: 'many' is no number of epochs"),
        (["my pets", "--epochs=3", "--trainer.max_epochs=3"], "give one of the two"),
        (["my pets", "--epoch=3"], "finetune has no such flag; did you mean 'epochs'?"),
        (["my pets", "--data.root=x"], "--data.root: give the folder first"),
        (["my pets", "--net.weights=x"], "--net.weights: give --from"),
        (["my pets", "--trainer.devices=2"], "--trainer.devices: finetune looks, writes and"),
        (["my pets", "--optimizer.lrr=1"], "did you mean 'lr'?"),
        (["my pets", "--data.batch_size=0"], "data.batch_size must be at least 1"),
        (["my pets", "--data.classes=[ant]"], "'ant' is the only class folder"),
        (["my pets", "--epochs=99999999999"], "is no number of epochs, 1 to 100,000"),
        (["my pets", "--recipe=x.txt"], "--recipe x.txt: give a .yaml file"),
        (["my pets", "--out=net"], "--out net: is there and not empty"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(
    here: Path, capsys, arguments: list[str], message: str
):
    before = sorted(here.rglob("*"))
    given = ["--from=./net", *arguments] if "--from" not in str(arguments) else arguments
    assert message in refusal(capsys, "finetune", *given)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--freezing.freeze=[layer9]", "layer9"),
        ("--model.class_weights=[1, 2, 3]", "model.class_weights: 3 weights for 2 classes"),
    ],
)
def test_what_a_run_would_refuse_leaves_no_recipe(here: Path, capsys, flag: str, message: str):
    assert message in refusal(capsys, "finetune", "my pets", *FLAGS, flag)
    assert not (here / "finetune_my_pets.yaml").exists()


def test_help_needs_no_folder(capsys):
    for arguments in ((), ("-h",)):
        assert command("finetune", *arguments) == 0
        assert "usage: resnet-hub finetune DIR" in capsys.readouterr().out

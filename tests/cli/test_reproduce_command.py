"""``resnet-hub reproduce``: tables, what is found, what is trained, what is refused."""

import json
from pathlib import Path

import pytest
from small_runs import command, refusal

from resnet_hub.cli.layers import read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.nets.resnet import ResNet
from resnet_hub.studies import training
from resnet_hub.studies.members import as_flags
from resnet_hub.studies.published import TABLES
from resnet_hub.weights.provenance import Provenance, Score

DIGITS = (
    *("--steps=4", "--data=Digits", "--data.pad=1", "--data.batch_size=256"),
    *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TABLES)
def test_every_table_prints_and_says_what_is_unmeasured(name: str, here: Path, capsys):
    assert command("reproduce", name) == 0
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith(TABLES[name].title)
    assert len(rows) == len(TABLES[name].rows) + 1
    assert all(line.endswith("unmeasured") for line in rows[:-1])
    assert rows[-1].startswith("band: ")


def test_run_trains_what_is_missing_and_shows_it_without_a_verdict(here: Path, capsys, monkeypatch):
    trained = []

    def run(arguments: tuple[str, ...], output: int | None) -> int:
        trained.append(arguments)
        return command(*arguments) if arguments[1] == "cifar10_resnet20" else 143

    monkeypatch.setattr(training, "_run", run)
    assert command("reproduce", "he2015-table6", "--run", *DIGITS) == 143
    assert [arguments[1] for arguments in trained] == ["cifar10_resnet20", "cifar10_resnet32"]
    assert (here / "studies/he2015-table6/cifar_resnet20-seed0/model").is_dir()
    capsys.readouterr()
    assert command("reproduce", "he2015-table6", "--json") == 0
    table = json.loads(capsys.readouterr().out)
    assert {row["verdict"] for row in table["rows"]} == {"unmeasured"}
    assert "data.name: 'Digits' there, 'Cifar10' asked" in str(table["rows"][0]["notes"])


def test_run_asks_for_the_seeds_that_a_row_lacks_and_no_other(here: Path, capsys):
    row = TABLES["he2015-table6"].rows[0]
    assert row.member is not None
    recipe = read_recipe([row.member.recipe], read_flags(as_flags(row.member.settings))[0])
    score = Score(data="CIFAR-10 test", top1=0.9125, top5=1.0, n=10_000)
    origin = Provenance(recipe=recipe.to_dict(), seed=0, scores=(score,))
    ResNet("cifar_resnet20").save_pretrained(here / "runs/one", provenance=origin)
    asked = ("reproduce", "he2015-table6", "--run", "--dry-run", "--json")
    for seeds, wanted in (("0", []), ("0,1,2", [1, 2])):
        capsys.readouterr()
        assert command(*asked, f"--seeds={seeds}") == 0
        runs = json.loads(capsys.readouterr().out)["runs"]
        assert [run["seed"] for run in runs if run["label"] == "ResNet-20"] == wanted
        assert [run["seed"] for run in runs if run["label"] == "ResNet-32"] == [
            int(seed) for seed in seeds.split(",")
        ]


def test_a_card_that_cannot_be_read_is_told_and_left_out(here: Path, capsys):
    folder = here / "runs" / "one" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text("{}")
    assert command("reproduce", "he2015-table6") == 0
    assert "left out: runs/one/model/config.json: not a card" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("he2015-table7",), "no table is called 'he2015-table7'; did you mean 'he2015-table"),
        (("he2015-table6", "--seeds=1"), "--seeds: goes with --run"),
        (("he2015-table6", "--data.root=x"), "--data.root: goes with --run"),
        (("he2015-table6", "--dry-run"), "--dry-run: goes with --run"),
        (("he2015-table6", "--runs=nowhere"), "--runs: nowhere is no folder"),
        (("he2015-table3", "--run"), "--run: he2015-table3 is of ImageNet nets"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(arguments, told, here: Path, capsys):
    assert told in refusal(capsys, "reproduce", *arguments)
    assert list(here.iterdir()) == []

"""A paper's table beside ours: what counts, bands, verdicts."""

from dataclasses import replace
from pathlib import Path

import pytest

from resnet_hub.cli.layers import read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.learning.settings import Recipe
from resnet_hub.preprocess import Preprocess
from resnet_hub.studies.members import Member, as_flags, at_length
from resnet_hub.studies.published import TABLES
from resnet_hub.studies.reproduce import Model, ReproducedRow, reproduce
from resnet_hub.weights.card import Card
from resnet_hub.weights.provenance import Provenance, Receipt, Score
from resnet_hub.zoo import find_row

TABLE6 = TABLES["he2015-table6"]
DIGEST = "0" * 64


def recipe_of(member: Member) -> Recipe:
    return read_recipe([member.recipe], read_flags(as_flags(member.settings))[0])


@pytest.fixture(scope="module")
def recipes() -> dict[Member, Recipe]:
    return {m: recipe_of(m) for row in TABLE6.rows if (m := row.member) is not None}


def model(recipe: Recipe, error: float, *, data: str = "CIFAR-10 test") -> Model:
    score = Score(data=data, top1=1 - error / 100, top5=1.0, n=10_000)
    card = Card(
        architecture=find_row(str(recipe.net.name)).architecture,
        preprocess=Preprocess(size=32, mean=(0.5,) * 3, std=(0.25,) * 3),
        labels=None,
        provenance=Provenance(
            sha256=DIGEST, recipe=recipe.to_dict(), seed=recipe.seed, scores=(score,)
        ),
    )
    return Model(Path(f"runs/seed{recipe.seed}/model"), card)


def row_of(recipes: dict[Member, Recipe], label: str, *models: Model) -> ReproducedRow:
    (row,) = [r for r in reproduce(TABLE6, recipes, models) if r.published.label == label]
    return row


def recipe(recipes: dict[Member, Recipe], depth: int, seed: int = 0) -> Recipe:
    (found,) = [own for member, own in recipes.items() if member.depth == depth]
    return replace(found, seed=seed)


def test_without_models_every_row_is_unmeasured(recipes):
    rows = reproduce(TABLE6, recipes, [])
    assert {(row.verdict, row.ours) for row in rows} == {("unmeasured", None)}


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [((8.7, 8.9), "within"), ((9.0, 9.3), "worse"), ((8.3, 8.5), "better")],
)
def test_the_mean_over_seeds_is_judged_by_the_band(recipes, errors, verdict):
    models = [model(recipe(recipes, 20, seed), error) for seed, error in enumerate(errors)]
    row = row_of(recipes, "ResNet-20", *models)
    assert row.verdict == verdict
    assert row.band == pytest.approx((8.45, 9.05))
    assert row.ours.mean == pytest.approx(sum(errors) / 2)
    assert row.ours.std == pytest.approx(abs(errors[0] - errors[1]) / 2**0.5)
    assert len(row.ours.folders) == 2


def test_a_row_with_a_deviation_has_a_band_of_two_of_them(recipes):
    row = row_of(recipes, "ResNet-110", model(recipe(recipes, 110), 6.94))
    assert row.band == pytest.approx((6.29, 6.93))
    assert row.verdict == "worse"


def test_shorter_runs_and_other_files_are_shown_and_judge_nothing(recipes):
    short = at_length(recipe(recipes, 20), 4_000)
    row = row_of(recipes, "ResNet-20", model(short, 8.7))
    assert (row.verdict, row.ours.mean) == ("none", pytest.approx(8.7))
    assert row.notes == ("no verdict: 4,000 of 64,000 steps",)
    row = row_of(
        recipes, "ResNet-20", model(recipe(recipes, 20), 8.7, data="CIFAR-10 (other files) test")
    )
    assert row.verdict == "none"
    assert "measured on CIFAR-10 (other files) test" in row.notes[0]


def test_a_run_by_other_settings_does_not_count_and_is_told(recipes):
    own = recipe(recipes, 20)
    chosen = replace(own, data=replace(own.data, held_out=5000))
    row = row_of(recipes, "ResNet-20", model(chosen, 8.7))
    assert (row.verdict, row.ours) == ("unmeasured", None)
    assert row.notes == ("runs/seed0/model does not count (data.held_out: 5000 there, 0 asked)",)


def test_a_net_that_the_paper_calls_failed_is_judged_by_its_bound():
    table = TABLES["he2016-table1"]
    recipes = {row.member: recipe_of(row.member) for row in table.rows if row.member}
    (failed,) = [row for row in table.rows if row.label.startswith("dropout")]
    for error, verdict in ((30.0, "within"), (12.0, "better")):
        rows = reproduce(table, recipes, [model(recipes[failed.member], error)])
        assert {r.published.label: r.verdict for r in rows}[failed.label] == verdict


def test_weights_are_judged_where_they_were_measured_as_the_paper_does():
    table = TABLES["he2016-table5"]
    for size, verdict in ((320, "within"), (224, "unmeasured")):
        receipt = Receipt(
            data_sha256=DIGEST,
            answers_sha256=DIGEST,
            logits_sha256=DIGEST,
            preprocess=Preprocess(size=size, mean=(0.5,) * 3, std=(0.25,) * 3),
            precision="32-true",
            device="cpu",
            versions={},
        )
        score = Score(data="ImageNet val", top1=0.792, top5=0.94, n=50_000, receipt=receipt)
        card = Card(
            architecture=find_row("preact_resnet200").architecture,
            preprocess=receipt.preprocess,
            labels=None,
            provenance=Provenance(sha256=DIGEST, scores=(score,)),
        )
        row = reproduce(table, {}, [Model(Path("weights"), card)])[4]
        assert row.published.error == 20.7
        assert row.verdict == verdict
        if size == 224:
            assert row.notes == ("weights was measured by 1-crop 224: 20.80%",)


@pytest.mark.parametrize(
    ("data", "n", "verdict"),
    [("ImageNet val", 50_000, "within"), ("ImageNet val", 500, "none"), ("Digits", 50_000, "none")],
)
def test_weights_are_measured_by_the_tables_protocol_where_there_are_data(data, n, verdict):
    table, asked = TABLES["he2015-table3"], []

    def measure(model: Model, protocol: str) -> Score:
        asked.append(protocol)
        return Score(data=data, top1=0.7715, top5=0.93, n=n)

    net = find_row("resnet50_v1").architecture
    card = Card(architecture=net, preprocess=Preprocess(), labels=None, provenance=Provenance())
    rows = reproduce(table, {}, [Model(Path("weights"), card)], measure=measure)
    (row,) = [row for row in rows if row.published.label == "ResNet-50"]
    assert (row.verdict, asked) == (verdict, ["10-crop 224"])
    assert row.ours.mean == pytest.approx(22.85)
    assert [other.verdict for other in rows if other is not row] == ["unmeasured"] * 6
    if verdict == "none":
        assert row.notes == (f"no verdict: measured on {n:,} images of {data}",)

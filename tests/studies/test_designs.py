"""What studies and the papers' tables ask for: nets, recipes, lengths, published numbers."""

from dataclasses import replace
from functools import cache

import pytest

from resnet_hub.cli.layers import read_flags
from resnet_hub.cli.recipes import read_recipe
from resnet_hub.errors import InvalidSetting
from resnet_hub.learning.settings import Recipe
from resnet_hub.studies.designs import DESIGNS, gated, plain, residual, unit
from resnet_hub.studies.members import Member, as_flags, at_length, differences, shortened
from resnet_hub.studies.published import TABLES
from resnet_hub.zoo import find_row

MEMBERS = [m for design in DESIGNS.values() for m in design.members(design.depths)]
ROWS = [row.member for table in TABLES.values() for row in table.rows if row.member]


@cache
def recipe_of(member: Member, *more: str) -> Recipe:
    return read_recipe([member.recipe], read_flags([*as_flags(member.settings), *more])[0])


def test_every_member_is_a_packaged_recipe_of_its_net_that_holds_nothing_out():
    for member in dict.fromkeys([*MEMBERS, *ROWS]):
        recipe = recipe_of(member)
        assert recipe.net.name == member.net
        assert recipe.data.held_out == 0
        assert recipe.trainer["max_steps"] == 64_000
        assert str(member.depth) in member.net


@pytest.mark.parametrize("design", DESIGNS.values(), ids=list(DESIGNS))
def test_members_of_a_study_have_folders_and_labels_of_their_own_and_differ(design):
    members = design.members(design.known)
    for told in ([m.folder(0) for m in members], [(m.panel, m.label) for m in members]):
        assert len(set(told)) == len(members)
    recipes = [recipe_of(member) for member in design.members(design.depths)]
    assert all(differences(one, two) for one in recipes for two in recipes if one is not two)


def test_units_and_gates_of_one_depth_differ_in_their_net_alone():
    for name in ("units", "gates"):
        recipes = [recipe_of(member) for member in DESIGNS[name].members([110])]
        assert all(replace(recipe, net=recipes[0].net) == recipes[0] for recipe in recipes)


def test_a_shorter_run_has_its_schedule_in_proportion():
    assert shortened(recipe_of(unit(110, "preact")), 4_000) == {
        "trainer.max_steps": 4_000,
        "schedule.milestones": [2_000, 3_000],
        "schedule.warmup": 25,
    }
    whole = recipe_of(plain(20))
    assert shortened(whole, 64_000) == {}
    assert at_length(whole, 4_000).schedule.milestones == (2_000, 3_000)
    flags = as_flags(shortened(whole, 4_000))
    assert not differences(at_length(whole, 4_000), recipe_of(plain(20), *flags))


def test_recipes_differ_by_what_gives_other_numbers_and_not_by_places():
    asked = recipe_of(residual(20))
    same = recipe_of(
        residual(20),
        *("--data.root=else", "--data.download=false", "--data.resident=false"),
        *("--trainer.devices=1", "--model.compile=reduce-overhead"),
    )
    assert differences(asked, same) == []
    other = recipe_of(residual(20), "--optimizer.lr=0.2", "--trainer.precision=bf16-mixed")
    assert differences(asked, other) == [
        "optimizer.lr: 0.2 there, 0.1 asked",
        "trainer.precision: 'bf16-mixed' there, '32-true' asked",
    ]
    assert differences(asked, other, ignore=("optimizer.lr", "trainer.precision")) == []


def test_folders_are_called_by_net_twist_and_seed():
    assert plain(20).folder(0) == "cifar_plain20-seed0"
    assert gated(110, "exclusive", -6).folder(2) == "cifar_resnet110-exclusive_gate-6-seed2"


def test_a_depth_without_a_net_is_refused():
    with pytest.raises(InvalidSetting, match=r"degradation has no nets of 21; has 20, 32, 44"):
        DESIGNS["degradation"].members([21])


def test_the_tables_numbers_are_those_of_the_architecture_table():
    """Both were written from the papers, at different times."""
    plain_rows = [row for row in TABLES["he2015-table6"].rows if row.member]
    assert len(plain_rows) == 6
    for row in (*plain_rows, *TABLES["he2016-table2"].rows):
        if row.member is not None and not any("form" in key for key in row.member.settings):
            assert row.error == find_row(row.member.net).error, row.label
    for table in ("he2015-table2", "he2016-table5"):
        for row in TABLES[table].rows:
            assert row.architecture is not None
            assert row.architecture.classes == 1000


def test_the_nets_of_a_table_or_a_study_lie_in_folders_of_their_own():
    asked = {name: {row.member for row in table.rows} for name, table in TABLES.items()}
    asked |= {name: set(design.members(design.known)) for name, design in DESIGNS.items()}
    for name, members in asked.items():
        folders = [member.folder(0) for member in members if member is not None]
        assert sorted(set(folders)) == sorted(folders), name


def test_two_rows_of_a_table_never_share_what_is_trained():
    for table in TABLES.values():
        members = [row.member for row in table.rows if row.member is not None]
        recipes = [recipe_of(member) for member in members]
        assert all(differences(a, b) for a in recipes for b in recipes if a is not b), table.name

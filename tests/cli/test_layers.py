"""Recipe files and flags, read as nested values with the place each came from."""

import os
from pathlib import Path

import pytest

from resnet_hub.cli.layers import Layer, find_recipe, packaged_recipes, read_file, read_flags
from resnet_hub.errors import DataMissing, InvalidSetting


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str | bytes, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def refused(path: Path) -> str:
    with pytest.raises(InvalidSetting) as error:
        read_file(path)
    return str(error.value)


def test_a_file_is_read_with_the_line_of_every_key(written):
    path = written("seed: 3\n\n# more\ndata:\n  name: Digits\n  scale: [256,\n    480]\n")
    layer = read_file(path)
    assert layer.values == {"seed": 3, "data": {"name": "Digits", "scale": [256, 480]}}
    assert layer.place(("seed",)) == f"{path}:1"
    assert layer.place(("data",)) == f"{path}:4"
    assert layer.place(("data", "scale")) == f"{path}:6"
    assert layer.place(("data", "nothing")) == f"{path}:4"
    assert layer.place(("trainer", "nothing")) == "recipe"


def test_a_sections_bare_value_is_its_name(written):
    layer = read_file(written("data: Cifar10\nnet: resnet18\noptimizer: sgd\nschedule: cosine\n"))
    assert layer.values == {
        "data": {"name": "Cifar10"},
        "net": {"name": "resnet18"},
        "optimizer": {"name": "sgd"},
        "schedule": {"name": "cosine"},
    }
    assert layer.place(("net", "name")).endswith(":2")
    assert read_flags(["--data", "Cifar10"])[0].values == {"data": {"name": "Cifar10"}}


def test_an_empty_file_says_nothing(written):
    assert read_file(written("# nothing yet\n")).values == {}


@pytest.mark.fault("P2")
@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("seed: 1\nseed: 2\n", 2, "seed stands there twice"),
        ("data:\n  name: a\n  root: b\n  name: c\n", 4, "data.name stands there twice"),
        ("data: Cifar10\ndata:\n  root: x\n", 2, "data stands there twice"),
        ("callbacks:\n- class_path: a\n  class_path: b\n", 3, "callbacks.class_path stands"),
        ("optimizer: {lr: .nan}\n", 1, "optimizer.lr: nan is no finite number"),
        ("optimizer:\n  lr: .inf\n", 2, "optimizer.lr: inf is no finite number"),
        ("schedule:\n  milestones: [1,\n   -.inf]\n", 3, "schedule.milestones: -inf is no finite"),
        ("seed: [1\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML (mapping values are not allowed here)"),
        ("seed: 1\n\ttrainer: 2\n", 2, "not YAML"),
        ("seed: !!python/object/apply:os.system [ls]\n", 1, "no value that can be read"),
        ("seed: !!python/name:os.system\n", 1, "no value that can be read"),
        ("data: !!python/object:os.x {a: 1}\n", 1, "no value that can be read"),
        ("seed: 2001-99-99\n", 1, "no value that can be read (month must be in 1..12)"),
        ("seed: 0x_\n", 1, "no value that can be read"),
        ("seed: !!bool maybe\n", 1, "no value that can be read"),
        ("callbacks: !!omap [lr: .nan]\n", 1, "callbacks: no value that can be read (!!omap)"),
        ("logger: !!set {a, a}\n", 1, "logger: no value that can be read (!!set)"),
        ("logger: !!binary aGk=\n", 1, "logger: no value that can be read (!!binary)"),
        ("callbacks: !own [a]\n", 1, "callbacks: no value that can be read (!own)"),
        ("optimizer: {lr: !!float nan}\n", 1, "optimizer.lr: nan is no finite number"),
        ("optimizer: {lr: 1.0e+999}\n", 1, "optimizer.lr: inf is no finite number"),
        ("seed: 1\n<<: {seed: 2}\n", 2, "YAML merge keys (<<) are not read; write them out"),
        ("logger:\n- init_args:\n    <<: {a: 1}\n", 3, "are not read in logger.init_args; write"),
        ("seed: 1\n? [a, b]\n: 2\n", 2, "a key is one word"),
        ("data:\n  ? {a: b}\n  : 2\n", 2, "a key in data is one word"),
        ("data: &digits Digits\n", 1, "YAML anchors and aliases are not read; write the value"),
        ("seed: 1\nnet: *above\n", 2, "YAML anchors and aliases are not read; write the value"),
        ("seed: 1\nnet: a\x00b\n", 2, "not YAML (special characters are not allowed)"),
        (b"seed: 1\nnet: r\xe9sum\xe9\n", 2, "not YAML (not UTF-8: "),
        ("seed: 1\ndata:\n\troot: x\n", 3, "not YAML (found character '\\t' that cannot start"),
        ("seed: 1\n---\nseed: 2\n", 2, "not YAML (but found another document)"),
        ("seed:\n " + "[" * 50_000, 2, "nested over 50 deep; no recipe is"),
        ("seed:\n" + "- " * 50_000, 2, "nested over 50 deep; no recipe is"),
        ("seed: [\n" + " 1,\n" * 30_000 + "]", 19_998, "over 20,000 values; no recipe has as many"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(
    written, text: str | bytes, line: int, message: str
):
    path = written(text)
    found = refused(path)
    assert found.startswith(f"{path}:{line}: ")
    assert message in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- seed\n", "a recipe is a mapping of sections"),
        ("just words\n", "a recipe is a mapping of sections"),
        ("seed: 1\n---\nseed: 2\n", "but found another document"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"seed: \x00\n", "not YAML"),
        ("seed: " + "[" * 50_000 + "]" * 50_000, "nested over 50 deep"),
        ("seed: " + "{a: " * 50_000 + "}" * 50_000, "nested over 50 deep"),
    ],
)
def test_what_is_no_recipe_is_refused(written, content: str | bytes, message: str):
    path = written(content)
    assert str(path) in refused(path)
    assert message in refused(path)


@pytest.mark.fault("P2")
def test_an_alias_bomb_is_refused_and_not_built(written):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    found = refused(written("\n".join(lines)))
    assert found.endswith(":1: YAML anchors and aliases are not read; write the value out")
    bomb = "[&a [x, x], &b [*a, *a], [*b, *b]]"
    with pytest.raises(InvalidSetting, match="--seed: YAML anchors and aliases are not read"):
        read_flags(["--seed", bomb])


@pytest.mark.fault("P2")
def test_a_file_too_large_for_a_recipe_is_refused_unread(written):
    path = written("seed: 1\n")
    os.truncate(path, 100 << 20)  # sparse: it costs no disk
    assert refused(path) == f"{path}: over 512 KiB; no recipe is that large"


def test_a_byte_order_mark_and_windows_line_ends_are_read(written):
    layer = read_file(written(b"\xef\xbb\xbfseed: 3\r\ndata:\r\n  root: x\r\n"))
    assert layer.values == {"seed": 3, "data": {"root": "x"}}
    assert layer.place(("data", "root")).endswith(":3")


def test_flags_are_nested_by_their_dots_and_typed_as_yaml():
    text = (
        "one --trainer.max_epochs 3 --data.root=a=b two --seed -1 --trainer.devices [0,1] "
        "--model.ema_decay=null --data.download false"
    )
    layer, others = read_flags(text.split())
    assert others == ["one", "two"]
    assert layer.values == {
        "trainer": {"max_epochs": 3, "devices": [0, 1]},
        "data": {"root": "a=b", "download": False},
        "seed": -1,
        "model": {"ema_decay": None},
    }
    assert layer.place(("trainer", "max_epochs")) == "--trainer.max_epochs"
    assert layer.place(("trainer",)) == "--trainer.max_epochs"


def test_the_later_flag_wins():
    layer, _ = read_flags(["--seed=1", "--data", "Cifar10", "--seed=2", "--data.root=x"])
    assert layer.values == {"seed": 2, "data": {"name": "Cifar10", "root": "x"}}
    layer, _ = read_flags(["--data.root=x", "--data={name: Digits, root: y}"])
    assert layer.values == {"data": {"name": "Digits", "root": "y"}}
    assert layer.place(("data", "root")) == "--data"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed"], "--seed: needs a value"),
        (["--seed", "--data.root", "x"], "--seed: needs a value"),
        (["--seed", "[1"], "--seed: not YAML"),
        (["--optimizer.lr", ".nan"], "--optimizer.lr: optimizer.lr: nan is no finite number"),
        (["--data", "{root: a, root: b}"], "--data: data.root stands there twice"),
        (["--seed", "!!python/name:os.system"], "--seed: seed: no value that can be read"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_refused(arguments: list[str], message: str):
    with pytest.raises(InvalidSetting) as error:
        read_flags(arguments)
    assert str(error.value).startswith(message)


def test_a_layer_over_another_merges_sections_and_replaces_values_and_places():
    below = Layer({"seed": 1, "data": {"name": "a", "scale": [1, 2]}}, {("data", "name"): "f:1"})
    above = Layer({"data": {"name": "b", "scale": [3]}}, {("data", "name"): "g:2"})
    merged = above.over(below)
    assert merged.values == {"seed": 1, "data": {"name": "b", "scale": [3]}}
    assert merged.place(("data", "name")) == "g:2"
    assert below.values["data"]["name"] == "a"


def test_the_places_go_with_the_values_that_replace_others():
    below = Layer(
        {"data": {"name": "a", "scale": {"low": 1}}, "trainer": 3},
        {
            ("data",): "f:1",
            ("data", "name"): "f:2",
            ("data", "scale"): "f:3",
            ("data", "scale", "low"): "f:4",
            ("trainer",): "f:5",
        },
    )
    replaced = Layer({"data": {"scale": 2}}, {("data", "scale"): "g:1"}).over(below)
    assert replaced.place(("data", "scale", "low")) == "g:1"
    assert (replaced.place(("data",)), replaced.place(("data", "name"))) == ("f:1", "f:2")
    gone = Layer({"data": None}, {("data",): "g:1"}).over(below)
    back = Layer({"data": {"scale": {"high": 2}}}, {("data", "scale", "high"): "h:1"}).over(gone)
    assert back.place(("data",)) == "h:1"
    assert back.place(("data", "name")) == "recipe"
    flags, _ = read_flags(["--trainer.max_epochs=1"])
    assert flags.over(below).place(("trainer",)) == "--trainer.max_epochs"


@pytest.mark.parametrize("written", ["007", "null", "[x", "a: b", "~nobody-here/x"])
def test_a_flag_of_the_command_is_taken_as_written(written: str):
    flags, _ = read_flags([f"--out={written}", "--resume", written])
    assert flags.values == {"out": written, "resume": written}


@pytest.mark.parametrize("written", ["a: b", "a #1", "[x]", "@x", "*x", "{", "!!python/name:x.y"])
def test_a_flag_that_is_one_string_need_not_be_yaml(written: str):
    assert read_flags([f"--data.root={written}"])[0].values == {"data": {"root": written}}


def test_the_home_of_nobody_is_refused():
    with pytest.raises(InvalidSetting, match=r"~nobody-here/x\.yaml: there is no home of a user"):
        find_recipe("~nobody-here/x.yaml")


def test_a_path_wins_over_a_recipe_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written
):
    monkeypatch.chdir(tmp_path)
    packaged = packaged_recipes() / "quickstart.yaml"
    assert find_recipe("quickstart") == packaged
    (tmp_path / "quickstart").mkdir()  # a folder is no recipe
    assert find_recipe("quickstart") == packaged
    written("seed: 1", "quickstart.yaml")
    assert find_recipe("quickstart.yaml") == Path("quickstart.yaml")
    (tmp_path / "quickstart").rmdir()
    written("seed: 1", "quickstart")
    assert find_recipe("quickstart") == Path("quickstart")


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written):
    monkeypatch.setenv("HOME", str(tmp_path))
    written("seed: 1", "own.yaml")
    assert find_recipe("~/own.yaml") == tmp_path / "own.yaml"


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(DataMissing, match=r"quickstrat: no such recipe.*did you mean 'quickstart'"):
        find_recipe("quickstrat")
    with pytest.raises(DataMissing, match=r"recipes/cifar10_preact165\.yaml.*'cifar10_preact164'"):
        find_recipe("recipes/cifar10_preact165.yaml")
    with pytest.raises(DataMissing, match=r"zzz: no such recipe file; recipes here: .*quickstart"):
        find_recipe("zzz")

"""The command table: help, refusals, and what starting imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import command, environment, refusal

import resnet_hub
from resnet_hub.cli import __main__ as table
from resnet_hub.nets.resnet import ResNet

SLOW = ("torch", "lightning", "numpy", "matplotlib")


def started(*arguments: str, cwd: Path) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command in a new process, and return it and what slow it imported."""
    code = (
        "import sys; from resnet_hub.cli.__main__ import main; code = main(sys.argv[1:]); "
        f"print('loaded', *({set(SLOW)!r} & sys.modules.keys())); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,  # seconds; what never ends is found, what is slow here is not judged
    )
    return done, set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_overview_names_every_command(capsys, arguments: tuple[str, ...]):
    assert command(*arguments) == 0
    out = capsys.readouterr().out
    for name in table.COMMANDS:
        assert f"\n  {name} " in out


def test_the_version_is_the_packages(capsys):
    assert command("--version") == 0
    assert capsys.readouterr().out == f"resnet-hub {resnet_hub.__version__}\n"


@pytest.mark.parametrize("name", table.COMMANDS)
def test_every_command_explains_itself(capsys, name: str):
    try:
        code = command(name, "--help")
    except SystemExit as end:  # argparse's way
        code = end.code
    out, err = capsys.readouterr()
    assert code == 0
    assert err == ""
    assert out.startswith(f"usage: resnet-hub {name}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fitt"], "no command is called 'fitt'; did you mean 'fit'?"),
        (["tets"], "did you mean 'test'?"),
        (["xyzzy"], "no command is called 'xyzzy'; `resnet-hub --help` shows them"),
        (["list", "--jsn"], "unrecognized arguments: --jsn; did you mean '--json'?"),
        (["list", "--js"], "unrecognized arguments: --js"),
        (["info"], "the following arguments are required: source (see `resnet-hub info --help`)"),
        (["predict", "folder"], "the following arguments are required: IMAGE"),
        (["export", "run"], "the following arguments are required: out"),
        (["convert", "a", "b"], "one of the arguments --net --to is required"),
    ],
)
def test_what_no_command_takes_is_refused_in_one_line(capsys, arguments: list, message: str):
    assert message in refusal(capsys, *arguments)


def test_debug_shows_the_traceback_wherever_it_stands(capsys):
    for arguments in (("--debug", "info", "resnet51"), ("info", "resnet51", "--debug")):
        assert command(*arguments) == 1
        err = capsys.readouterr().err
        assert "Traceback (most recent call last)" in err
        assert err.splitlines()[-1].startswith("resnet-hub: 'resnet51': neither a folder here")


def test_what_the_system_refuses_is_one_line(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("mine")
    message = refusal(capsys, "fit", "quickstart", "--out", tmp_path / "file" / "run")
    assert str(tmp_path / "file") in message


@pytest.mark.parametrize("arguments", [("--help",), ("list",), ("info", "resnet50")])
def test_looking_things_up_imports_nothing_slow(tmp_path: Path, arguments: tuple[str, ...]):
    done, loaded = started(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit", "quickstart", "--trainer.max_epoch", "3"], "did you mean 'max_epochs'?"),
        (["fit", "quickstart", "--data", "Digit"], "did you mean 'Digits'?"),
        (["fit", "bomb.yaml"], "YAML anchors and aliases are not read"),
        (["test", "model", "--data.nam", "Digits"], "did you mean 'name'?"),
        (["finetune", "pets", "--optimizer.lrr", "1"], "did you mean 'lr'?"),
    ],
)
def test_a_mistyped_recipe_is_refused_without_torch(
    tmp_path: Path, arguments: list[str], message: str
):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    done, loaded = started(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not loaded & {"torch", "lightning"}
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("recipe",),
        ("recipe", "show", "quickstart"),
        ("recipe", "diff", "cifar10_resnet20", "cifar10_resnet110"),
        ("recipe", "lint", "imagenet_r50"),
    ],
)
def test_looking_at_recipes_imports_neither_torch_nor_lightning(
    tmp_path: Path, arguments: tuple[str, ...]
):
    done, loaded = started(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not loaded & {"torch", "lightning"}
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_lacks_letters_gets_their_escapes(tmp_path: Path):
    net = ResNet("cifar_resnet20", classes=2)
    net.labels = ("Bär", "Löwe")
    net.save_pretrained(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-m", "resnet_hub.cli", "info", "./model"],
        cwd=tmp_path,
        env={**environment(), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert r"B\xe4r, L\xf6we" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path):
    list_ = [sys.executable, "-m", "resnet_hub.cli", "list", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        list_, cwd=tmp_path, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0

"""README's section on published weights, run as it is written, against a Hub on this machine."""

import re
import shlex
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub
from reference_nets import fill
from small_runs import command, fit

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache

# The client's own, when it uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
SECTION = README.partition("## Published weights")[2].partition("\n## ")[0]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch):
    """Nothing but a Hub, a run, and a cache with the upstream weights that the section names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    fit(Path("runs/quickstart/1"))
    net = fill(ResNet("resnet50"))
    for name in re.findall(r'from_pretrained\("(resnet50[.\w]*)"', SECTION):
        net.save_pretrained(cache.published("resnet50.tv_v2" if name == "resnet50" else name))
    with LoopbackHub() as hub:
        hub.attach(monkeypatch, tmp_path / "hf", token="hf_good")
        yield hub


def test_it_runs_as_it_is_written(hub: LoopbackHub, capsys):
    ((python,),) = (re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL),)
    ((console,),) = (re.findall(r"```console\n(.*?)```", SECTION, re.DOTALL),)
    commands = [line.removeprefix("$ resnet-hub ") for line in console.splitlines()]
    assert [line.split()[0] for line in commands] == ["push", "verify", "cache"]
    for line in commands[:2]:
        assert command(*shlex.split(line)) == 0, capsys.readouterr()
    names: dict = {}
    exec(python, names)
    assert names["net"].labels == tuple("0123456789")
    capsys.readouterr()
    assert command(*shlex.split(commands[2])) == 0
    listed = capsys.readouterr().out
    for source in ("resnet50.tv_v2", "resnet50.a1", "hf:me/digits@"):
        assert source in listed

"""``resnet-hub cache``: what was fetched, and removing it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_runs import command, refusal

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache, outputs


@pytest.fixture
def cached(tmp_path: Path, monkeypatch) -> list[str]:
    """Two models in the cache; their sources."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    net = ResNet("cifar_resnet20")
    for name in ("cifar_resnet20.a", "cifar_resnet20.b"):
        net.save_pretrained(cache.published(name))
    return ["cifar_resnet20.a", "cifar_resnet20.b"]


def test_it_lists_and_sums(cached: list[str], capsys):
    assert command("cache", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[:-1]] == cached
    assert lines[-1].endswith(f" MB  in {cache.root()}")
    assert command("cache", "list", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [fact["source"] for fact in facts] == cached
    assert all(fact["bytes"] > 1_000_000 for fact in facts)


def test_it_clears_one_or_all(cached: list[str], capsys):
    assert command("cache", "clear", cached[0]) == 0
    assert [entry.source for entry in cache.entries()] == cached[1:]
    assert "freed in" in capsys.readouterr().out
    assert command("cache", "clear") == 0
    assert cache.entries() == []


def test_a_nets_bare_name_and_a_url_without_its_digest_are_known(cached: list[str]):
    net, url = ResNet("cifar_resnet20"), "https://host/model.safetensors"
    net.save_pretrained(cache.published("resnet50.tv_v2"))

    def fill(folder: Path) -> None:
        for path in cache.published("resnet50.tv_v2").iterdir():
            shutil.copy(path, folder)

    cache.filled(cache.root() / "urls" / "a-b", fill, source=f"{url}#sha256={'0' * 64}")
    for source in ("resnet50", url):
        assert command("cache", "clear", source) == 0
    assert [entry.source for entry in cache.entries()] == cached


def test_what_is_not_cached_cannot_be_cleared(cached: list[str], capsys):
    message = refusal(capsys, "cache", "clear", "resnet50")
    assert message == "resnet50: not cached (`resnet-hub cache list` shows what is)"
    assert len(cache.entries()) == 2


def test_what_nets_gave_is_listed_and_cleared_too(cached: list[str], capsys):
    for split in ("test", "train"):
        made = {"values": torch.zeros(100)}
        outputs.kept({"split": split}, lambda made=made: made, about=f"features for {split}")
    assert command("cache", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.partition("  (")[2] for line in lines[2:4]) == [
        "features for test)",
        "features for train)",
    ]
    assert command("cache", "list", "outputs", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [fact["source"] for fact in facts] == [e.source for e in outputs.entries()]
    assert {fact["about"] for fact in facts} == {"features for test", "features for train"}
    assert command("cache", "clear", facts[0]["source"]) == 0
    assert [entry.source for entry in outputs.entries()] == [facts[1]["source"]]
    assert command("cache", "clear", "outputs") == 0
    assert outputs.entries() == []
    assert [entry.source for entry in cache.entries()] == cached
    outputs.kept({}, lambda: {"values": torch.zeros(1)}, about="x")
    assert command("cache", "clear") == 0
    assert outputs.entries() == cache.entries() == []


def test_an_empty_cache_is_no_error(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert command("cache", "list") == command("cache", "clear") == 0
    assert not (tmp_path / "hub").exists()

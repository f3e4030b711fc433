"""``resnet-hub cache``: what was fetched, and removing it."""

import json
import shutil
from pathlib import Path

import pytest
from small_runs import command, refusal

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights import cache


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


def test_an_empty_cache_is_no_error(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert command("cache", "list") == command("cache", "clear") == 0
    assert not (tmp_path / "hub").exists()

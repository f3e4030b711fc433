"""Other projects' published files, from a server of this machine to model folders of ours."""

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
import timm
import torch
import torchvision
from reference_nets import fill
from torch import Tensor, nn

from resnet_hub.errors import CorruptFile, DataMissing, Diverged, ResNetHubError, WeightsMismatch
from resnet_hub.labels import imagenet_classes
from resnet_hub.nets.resnet import ResNet
from resnet_hub.preprocess import Preprocess
from resnet_hub.weights import catalog
from resnet_hub.weights.card import read_card
from resnet_hub.weights.catalog import CATALOG, PublishedWeights
from resnet_hub.weights.provenance import Score
from resnet_hub.weights.store import sha256_of
from resnet_hub.weights.upstream import fetch

CHECKOUT = Path(__file__).parents[2]
FILES = {"config.json", "model.safetensors", "README.md"}


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and keeps silent; half of what is called ``stalled``, then nothing."""

    def log_message(self, *args: object) -> None:
        """Keep silent."""

    def do_GET(self) -> None:
        """Serve a file."""
        if "stalled" not in self.path:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 20))
        self.end_headers()
        self.wfile.write(bytes(1 << 19))
        self.wfile.flush()
        STALLED.set()
        self.connection.settimeout(20)
        with suppress(OSError):
            self.connection.recv(1)  # until the other side is gone
        return None


STALLED = Event()


class Upstream:
    """A server of checkpoints, each named by its hash as upstream does."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def publish(self, name: str, content: object) -> PublishedWeights:
        """Put a checkpoint there, or bytes; return the catalog's entry of it."""
        path = self.folder / "new.pth"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        prefix = sha256_of(path)[:8]
        path = path.rename(self.folder / f"{name.partition('.')[0]}-{prefix}.pth")
        return replace(CATALOG[name], url=f"{self.url}/{path.name}", sha256=prefix)


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """A server, and a cache of this test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Upstream(folder, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "fetched"
    path.mkdir()
    return path


def refused(entry: PublishedWeights, folder: Path, error: type[ResNetHubError]) -> str:
    """Fetch what must fail, and leave nothing; return the message."""
    with pytest.raises(error) as caught:
        fetch(entry, folder)
    assert list(folder.iterdir()) == []
    assert "\n" not in str(caught.value)
    assert "upstream.pth" not in str(caught.value)
    return str(caught.value)


def state_of(net: nn.Module) -> dict[str, Tensor]:
    return net.state_dict()


def small() -> nn.Module:
    return fill(torchvision.models.resnet18())


IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18.tv_v1", "resnext50_32x4d.tv_v2"])
def test_torchvisions_file_gives_torchvisions_logits(upstream, folder, name):
    net = fill(torchvision.models.get_model(name.partition(".")[0]))
    fetch(upstream.publish(name, state_of(net)), folder)
    ours = ResNet.from_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == FILES
    assert torch.equal(ours(IMAGES), net(IMAGES))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_timms_file_gives_timms_logits_and_half_precision_is_widened(upstream, folder, half):
    net = fill(timm.create_model("resnet18"))
    net = net.half() if half else net
    fetch(upstream.publish("resnet18.a1", {"state_dict": state_of(net), "epoch": 599}), folder)
    ours = ResNet.from_pretrained(folder)
    assert {tensor.dtype for tensor in ours.parameters()} == {torch.float32}
    assert torch.equal(ours(IMAGES), net.float()(IMAGES))


def test_the_card_says_where_they_come_from_and_what_upstream_says_of_them(upstream, folder):
    net = small()
    entry = upstream.publish("resnet18.a2", state_of(net))
    fetch(entry, folder)
    card = read_card(folder)
    digest = sha256_of(next(upstream.folder.iterdir()))
    assert card.name == "resnet18"
    assert card.labels == tuple(imagenet_classes().values())
    assert card.preprocess == Preprocess(size=224, resize=235, interpolation="bicubic")
    origin = card.provenance
    assert origin.source == f"{entry.url} (SHA-256 {digest})"
    assert origin.recipe == {"published": "arXiv:2110.00476 A2"}
    assert origin.licence == "Apache-2.0"
    published = Score(data="ImageNet val", top1=0.70634, top5=0.89486, n=50_000)
    assert origin.scores == (published,)
    assert published.receipt is None
    assert origin.sha256 == sha256_of(folder / "model.safetensors")
    assert "from_pretrained('resnet18.a2')" in (folder / "README.md").read_text()


def test_a_licence_that_upstream_does_not_state_is_not_made_up(upstream, folder):
    fetch(upstream.publish("resnet18.tv_v1", state_of(small())), folder)
    assert read_card(folder).provenance.licence is None
    assert "unstated" in (folder / "README.md").read_text()


@pytest.mark.fault("H1")
def test_another_file_than_its_name_states_is_refused(upstream, folder):
    entry = upstream.publish("resnet18.tv_v1", state_of(small()))
    message = refused(replace(entry, sha256="01234567"), folder, CorruptFile)
    assert message.startswith(entry.url)
    assert "another file" in message


def test_a_file_with_the_stated_hash_but_another_whole_digest_than_at_first_is_refused(
    upstream, folder, tmp_path
):
    net = small()
    entry = replace(upstream.publish("resnet18.tv_v1", state_of(net)), sha256="")
    fetch(entry, folder)
    nn.init.zeros_(net.fc.weight)
    other = replace(upstream.publish("resnet18.tv_v1", state_of(net)), sha256="")
    again = tmp_path / "again"
    again.mkdir()
    assert "resnet18.tv_v1" in refused(other, again, CorruptFile)
    fetch(entry, again)
    assert {path.name for path in again.iterdir()} == FILES


def test_what_was_refused_for_its_content_does_not_hold_the_name(upstream, folder):
    refused(upstream.publish("resnet18.tv_v1", b"no checkpoint"), folder, CorruptFile)
    fetch(upstream.publish("resnet18.tv_v1", state_of(small())), folder)
    assert {path.name for path in folder.iterdir()} == FILES


def test_another_nets_file_is_refused_with_the_first_differences(upstream, folder):
    net = torchvision.models.resnet34()
    message = refused(upstream.publish("resnet18.tv_v1", state_of(net)), folder, WeightsMismatch)
    assert "unexpected: layer1.2.conv1.weight" in message
    head = {**state_of(small()), "fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}
    entry = upstream.publish("resnet18.tv_v1", head)
    assert "7 classes in the file" in refused(entry, folder, WeightsMismatch)


def test_numbers_that_are_not_finite_are_refused(upstream, folder):
    net = small()
    nn.init.constant_(net.bn1.bias, torch.nan)
    message = refused(upstream.publish("resnet18.tv_v1", state_of(net)), folder, Diverged)
    assert "bn1.bias" in message
    assert "resnet18.tv_v1" in message


def test_a_file_that_upstream_itself_has_cut_is_refused(upstream, folder, tmp_path):
    torch.save(state_of(small()), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for length in (0, 1, 1000, len(whole) // 2, len(whole) - 1):
        entry = upstream.publish("resnet18.tv_v1", whole[:length])
        assert refused(entry, folder, CorruptFile).startswith(entry.url)


def test_a_file_that_is_not_there_and_a_server_that_is_not(upstream, folder):
    entry = upstream.publish("resnet18.tv_v1", b"")
    gone = replace(entry, url=f"{upstream.url}/gone-{entry.sha256}.pth")
    assert "404" in refused(gone, folder, DataMissing)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/a.pth"
        begin = time.monotonic()
        refused(replace(entry, url=dead), folder, DataMissing)
    assert time.monotonic() - begin < 5


class Bomb:
    """Unpickling this creates a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def bombs(marker: Path) -> list[object]:
    """Checkpoints that create ``marker`` where anything unpickles them freely."""
    state = {"state_dict": {"a": torch.zeros(1)}, "epoch": Bomb(marker)}
    return [Bomb(marker), state, pickle.dumps(Bomb(marker))]


@pytest.mark.fault("L4")
def test_code_in_a_published_file_is_never_run(upstream, folder, tmp_path):
    for content in bombs(tmp_path / "marker"):
        entry = upstream.publish("resnet18.tv_v1", content)
        assert "code in a checkpoint is never run" in refused(entry, folder, CorruptFile)
    assert not (tmp_path / "marker").exists()


FETCH = """
import sys
from dataclasses import replace
from pathlib import Path
from resnet_hub.errors import CorruptFile
from resnet_hub.weights.catalog import CATALOG
from resnet_hub.weights.upstream import fetch
folder, *pairs = sys.argv[1:]
for url, sha256 in zip(pairs[::2], pairs[1::2]):
    try:
        fetch(replace(CATALOG["resnet18.tv_v1"], url=url, sha256=sha256), Path(folder))
    except CorruptFile as error:
        print(error)
"""


@pytest.mark.fault("L4")
def test_not_even_where_the_environment_asks_torch_to_run_it(upstream, folder, tmp_path):
    entries = [upstream.publish("resnet18.tv_v1", c) for c in bombs(tmp_path / "marker")]
    pairs = [part for entry in entries for part in (entry.url, entry.sha256)]
    done = subprocess.run(
        [sys.executable, "-c", FETCH, folder, *pairs],
        env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
    )
    assert done.stdout.count("code in a checkpoint is never run") == len(entries)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "marker").exists()


def test_a_name_loads_what_upstream_publishes_once_and_from_then_on_without_a_server(
    upstream, monkeypatch
):
    net = small()
    entry = upstream.publish("resnet18.tv_v1", state_of(net))
    monkeypatch.setattr(catalog, "CATALOG", {**CATALOG, entry.name: entry})
    assert torch.equal(ResNet.from_pretrained("resnet18")(IMAGES), net(IMAGES))
    for path in upstream.folder.iterdir():
        path.unlink()
    again = ResNet.from_pretrained("resnet18.tv_v1", in_channels=1)
    assert again.labels[0] == "tench"
    kept = [
        p for p in Path(os.environ["TORCH_HOME"]).rglob("*") if p.is_file() and p.stat().st_size
    ]
    names = {p.name for p in kept if not p.name.endswith(".lock")}
    assert names == {*FILES, "digests.json", ".resnet18.tv_v1.json"}
    known = (Path(os.environ["TORCH_HOME"]) / "hub/resnet_hub/digests.json").read_text()
    assert entry.sha256 in known

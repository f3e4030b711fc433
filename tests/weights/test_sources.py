"""What people write for weights, taken apart without a request."""

from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from resnet_hub.errors import InvalidSetting
from resnet_hub.weights.sources import HubRepo, LocalFolder, Published, Url, parse
from resnet_hub.weights.store import write_text

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("resnet50", Published("resnet50")),
        ("resnet50.tv_v2", Published("resnet50.tv_v2")),
        ("there", LocalFolder(Path("there"))),
        ("./nowhere", LocalFolder(Path("nowhere"))),
        ("/nowhere", LocalFolder(Path("/nowhere"))),
        ("~/x", LocalFolder(Path.home() / "x")),
        (Path("resnet50"), LocalFolder(Path("resnet50"))),
        ("org/net", HubRepo("org/net")),
        ("org/net@v1.0", HubRepo("org/net", "v1.0")),
        ("hf:org/net@refs/pr/1", HubRepo("org/net", "refs/pr/1")),
        (f"hf:org/net@{'a' * 40}", HubRepo("org/net", "a" * 40)),
        ("hf:there/is", HubRepo("there/is")),
        ("there/is", LocalFolder(Path("there/is"))),
        (f"https://host/m.safetensors#sha256={DIGEST}", Url("https://host/m.safetensors", DIGEST)),
        (
            f"http://127.0.0.1:8/m.safetensors#sha256={DIGEST.upper()}",
            Url("http://127.0.0.1:8/m.safetensors", DIGEST),
        ),
    ],
)
def test_each_form_is_told_apart(tmp_path: Path, monkeypatch, written: str | Path, meant: object):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "is").mkdir(parents=True)
    assert parse(written) == meant
    assert parse(meant) is meant
    if not isinstance(meant, LocalFolder):
        assert parse(str(meant)) == meant


@pytest.mark.fault("L7")
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("a/../b", "no Hub repository is called so"),
        ("org/..", "no Hub repository is called so"),
        ("org/a/b", "no Hub repository is called so"),
        ("hf:net", "no Hub repository is called so"),
        ("hf:../../etc", "no Hub repository is called so"),
        ("org/a\0b", "no Hub repository is called so"),
        ("org/a\nb", "no Hub repository is called so"),
        ("org/a--b", "no Hub repository is called so"),
        ("org-/net", "no Hub repository is called so"),
        ("org/net.", "no Hub repository is called so"),
        ("org/net.git", "no Hub repository is called so"),
        ("hf:-x/net", "no Hub repository is called so"),
        ("org/net\n", "no Hub repository is called so"),
        (f"org/{'n' * 5000}", "no Hub repository is called so"),
        ("org/net@", "'' cannot be a branch, tag or commit"),
        ("org/net@../../x", "cannot be a branch, tag or commit"),
        ("org/net@/x", "cannot be a branch, tag or commit"),
        ("org/net@a b", "cannot be a branch, tag or commit"),
        ("org/net@x/", "cannot be a branch, tag or commit"),
        (f"org/net@{'a/' * 17}b", "cannot be a branch, tag or commit"),
        (f"org/net@{'n' * 201}", "cannot be a branch, tag or commit"),
        (f"http://host/m.safetensors#sha256={DIGEST}", "by https:// alone"),
        (f"ftp://host/m.safetensors#sha256={DIGEST}", "by https:// alone"),
        (f"file:///m.safetensors#sha256={DIGEST}", "by https:// alone"),
        (f"https://[::/m.safetensors#sha256={DIGEST}", "by https:// alone"),
        ("https://host/m.safetensors", "append #sha256=…"),
        ("https://host/m.safetensors#sha256=12", "append #sha256=…"),
        (f"https://host/m.pth#sha256={DIGEST}", "not a .safetensors file; `resnet-hub convert`"),
        (f"https://me:secret@host/m.safetensors#sha256={DIGEST}", "with a password, a query"),
        (
            f"https://host/m.safetensors?key=secret#sha256={DIGEST}",
            "with a password, a query",
        ),
        (f"https://host/mödel.safetensors#sha256={DIGEST}", "other letters than ASCII"),
        (f"https://host:abc/m.safetensors#sha256={DIGEST}", "by https:// alone"),
        (f"https://host:99999/m.safetensors#sha256={DIGEST}", "by https:// alone"),
        (f"https://a..b/m.safetensors#sha256={DIGEST}", "from an address that is one"),
        (f"https://{'a' * 64}.org/m.safetensors#sha256={DIGEST}", "from an address that is one"),
        (f"https://host:0/m.safetensors#sha256={DIGEST}", "from an address that is one"),
        (f"https:///m.safetensors#sha256={DIGEST}", "from an address that is one"),
        (None, "weights are named by a text or a path"),
        (123, "weights are named by a text or a path"),
        ("~nobody-here/x", "there is no home of a user 'nobody-here'"),
    ],
)
def test_what_can_be_no_source_is_refused_in_one_line(written: str, words: str):
    with pytest.raises(InvalidSetting) as caught:
        parse(written)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("written", ["a\0b", "n" * 5000, "", "x.y.z", "räume"])
def test_any_other_word_is_a_name_that_may_be_known(written: str):
    assert parse(written) == Published(written)


def taken(check, name: str, refusal: type[Exception]) -> bool:
    try:
        check(name)
    except refusal:
        return False
    return True


def test_a_repository_may_be_called_what_the_hubs_client_lets_it_be():
    ends = ["n" * 95, "n" * 96, "n" * 97, "net.git", "net.gitx", "x.git.", ".git"]
    parts = ["".join(letters) for size in (1, 2, 3, 4) for letters in product("aZ_.-", repeat=size)]
    names = [f"{part}/net" for part in parts] + [f"org/{part}" for part in [*parts, *ends]]
    for name in ["org.git/net", *names]:
        ours = taken(lambda name: parse(f"hf:{name}"), name, InvalidSetting)
        assert ours == taken(validate_repo_id, name, HFValidationError), name


@pytest.mark.parametrize("revision", ["n" * 200, "a/" * 16 + "b" * 168])
def test_the_longest_revision_is_the_name_of_a_file(tmp_path: Path, revision: str):
    assert parse(f"org/net@{revision}") == HubRepo("org/net", revision)
    write_text(tmp_path / quote(revision, safe=""), "commit")

"""Paths as people write them."""

from pathlib import Path

import pytest

from resnet_hub.errors import InvalidSetting
from resnet_hub.paths import check_place, expanded


@pytest.mark.parametrize("kind", [str, Path])
def test_a_tilde_at_the_beginning_is_the_home(tmp_path: Path, monkeypatch, kind: type):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded(kind("~")) == tmp_path
    assert expanded(kind("~/runs/1")) == tmp_path / "runs" / "1"


@pytest.mark.parametrize("path", ["a", "a/~/b", "a~", "./~b", "/a/b", "../a", "naïve\n"])
def test_any_other_path_stays_as_it_is(path: str):
    assert expanded(path) == Path(path)


@pytest.mark.parametrize("user", ["no-such-user", "no\0user"])
def test_a_home_that_is_not_there_is_refused_by_its_users_name(user: str):
    with pytest.raises(InvalidSetting) as caught:
        expanded(f"~{user}/x")
    written = user.replace("\0", r"\x00")
    assert str(caught.value) == f"~{written}/x: there is no home of a user '{written}'"


def test_a_process_without_any_home_is_told_so(monkeypatch):
    def unknown(number: int):
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(InvalidSetting, match=r"^~/x: there is no home directory; set HOME$"):
        expanded("~/x")


def test_an_empty_path_is_not_the_current_folder():
    with pytest.raises(InvalidSetting, match="an empty path"):
        expanded("")


def test_a_file_may_lie_in_folders_that_are_still_to_be_made(tmp_path: Path):
    check_place(tmp_path / "new" / "deeper" / "page.html")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [("sub", "is a folder; name a file"), ("file/x/y.png", "file is no folder")],
)
def test_a_file_that_has_no_place_is_refused(tmp_path: Path, name: str, why: str):
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSetting, match=why):
        check_place(tmp_path / name)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path):
    with pytest.raises(InvalidSetting, match="cannot be written"):
        check_place(tmp_path / ("x" * 300) / "page.html")

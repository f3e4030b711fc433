"""A model folder into a Hugging Face Hub repository: whole, checked first, by the Hub's client."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from resnet_hub.errors import CorruptFile, DataMissing, InvalidSetting
from resnet_hub.paths import expanded
from resnet_hub.weights.card import CARD_NAME, FILES, README_NAME, WEIGHTS_NAME, Card
from resnet_hub.weights.folder import amend_card, check_folder, read_readme
from resnet_hub.weights.huggingface import check_endpoint, http_error
from resnet_hub.weights.licences import canonical_licence
from resnet_hub.weights.reach import in_time, is_offline, probe
from resnet_hub.weights.readme import MARK, kept_words, write_readme
from resnet_hub.weights.sources import HubRepo, parse
from resnet_hub.weights.tokens import hidden_token

_ANSWER = 60.0  # seconds that the client may take for a step
_SLOWEST = 10_000  # bytes a second that an upload has to have
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LOGIN = "set HF_TOKEN or run `hf auth login`"


@dataclass(frozen=True)
class Pushed:
    """What a push left on the Hub.

    Attributes:
        repo: The repository.
        commit: Its commit that holds the folder, 40 hex digits.
        url: The page of the commit or of the pull request.
        changed: Whether there is a new commit; what was there already is not committed again.
    """

    repo: str
    commit: str
    url: str
    changed: bool


def push(
    folder: str | Path,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    pull_request: bool = False,
    licence: str | None = None,
) -> Pushed:
    """Upload a model folder in one commit, with a model card that the Hub understands.

    The repository is made if it is not there, and so is a branch. The token is the client's:
    ``HF_TOKEN``, or that of its login.

    Args:
        folder: The model folder.
        repo: ``org/name``.
        private: Make the repository private; one that is there and public is refused.
        revision: Branch to commit to; by default the main one.
        pull_request: Open a pull request instead of committing to the branch.
        licence: SPDX name or expression, for a folder whose card has none; it is written into the
            card first.

    Raises:
        CorruptFile: The folder is no model folder, or damaged.
        InvalidSetting: The card lacks a licence, a score or the recipe; or a repository or branch
            that cannot be called so, or be made private; or ``HF_ENDPOINT`` is no web address.
        DataMissing: The Hub cannot be reached, or refuses.
    """
    folder, target = expanded(folder), _target(repo, revision)
    if private and pull_request:
        raise InvalidSetting(f"{repo}: --pr asks one that is there, which --private cannot change")
    licence = None if licence is None else canonical_licence(licence)
    card = _publishable(folder, licence)
    client = _client()
    if licence:
        card = amend_card(folder, lambda now: _licensed(now, licence))
    refusal, done = None, cast(Any, None)
    try:
        if not pull_request:
            _asked(lambda: _make_place(client, target, private=private))
        before = _asked(lambda: client.model_info(target.repo, revision=target.revision)).sha
        files = _files(folder, card, target)
        done = _asked(
            lambda: client.create_commit(
                target.repo,
                files,
                commit_message=f"{card.name}, weights {card.provenance.sha256[:12]}",
                revision=target.revision,
                create_pr=pull_request,
            ),
            size=sum(file.upload_info.size for file in files),
        )
        there = set(_asked(lambda: client.list_repo_files(target.repo, revision=done.oid)))
    except Exception as error:
        if (refusal := _refusal(error, target)) is None:
            raise
    if refusal:  # raised here, where no cause clings to it: a server's words may repeat the token
        state = "pushed, but not looked at again" if done else "not pushed"
        raise DataMissing(f"{target.repo}: {state}, {refusal}")
    if not _COMMIT.fullmatch(str(done.oid)):
        raise DataMissing(f"{target.repo}: the Hub names no commit for what was pushed")
    if missing := set(FILES) - there:
        raise DataMissing(
            f"{target.repo}: the Hub left out {', '.join(sorted(missing))}; does its .gitignore "
            "name it?"
        )
    # Of the server's words only these two, which can be checked, go any further.
    page = f"discussions/{int(done.pr_num)}" if done.pr_num else f"commit/{done.oid}"
    url = f"{client.endpoint}/{target.repo}/{page}"
    return Pushed(target.repo, done.oid, url, done.oid != before)


def _target(repo: str, revision: str | None) -> HubRepo:
    if "://" in repo:
        raise InvalidSetting("push: a repository is written org/name, without the Hub's address")
    if "@" in repo:
        raise InvalidSetting(f"{repo}: give the branch by --revision")
    source = parse(f"hf:{repo.removeprefix('hf:')}" + (f"@{revision}" if revision else ""))
    if not isinstance(source, HubRepo):
        raise InvalidSetting(f"{repo}: is no Hub repository; they are written org/name")
    return source


def _publishable(folder: Path, licence: str | None) -> Card:
    if not (folder / CARD_NAME).exists() and (folder / "model" / CARD_NAME).is_file():
        raise InvalidSetting(f"{folder}: is a run; push {folder / 'model'}, the model folder in it")
    card = check_folder(folder)
    origin = card.provenance
    if licence and origin.licence not in (None, licence):
        raise InvalidSetting(
            f"{folder}: its card says {origin.licence}; another licence is not put over it, "
            f"but where it is wrong, edit it in {CARD_NAME}"
        )
    needed = {
        "a licence (--licence MIT, for one)": licence or origin.licence,
        "a score (`resnet-hub test` measures one and records the data set)": origin.scores,
        "the recipe (what `resnet-hub fit` exports has it)": origin.recipe,
    }
    if missing := [what for what, there in needed.items() if not there]:
        raise InvalidSetting(f"{folder}: not pushed, its card lacks {' and '.join(missing)}")
    if kept_words(read_readme(folder)) is None:
        raise InvalidSetting(
            f"{folder}: not pushed, this package did not write its README.md; begin it with the "
            f"line {MARK.strip()} and it is kept, below the model card"
        )
    return card


def _licensed(card: Card, licence: str | None) -> Card:
    return replace(card, provenance=replace(card.provenance, licence=licence))


def _client() -> Any:
    """Return the Hub's client, its server known to answer and a token known to be there."""
    check_endpoint()
    try:
        from huggingface_hub import HfApi, constants, get_token
    except ImportError as error:
        raise DataMissing("push: needs the Hub's client; pip install huggingface_hub") from error
    if is_offline() or constants.HF_HUB_OFFLINE:
        raise DataMissing("push: HF_HUB_OFFLINE forbids every request")
    if get_token() is None:
        raise DataMissing(f"push: the Hub takes nothing without a token; {_LOGIN}")
    probe(constants.ENDPOINT)
    return HfApi(endpoint=constants.ENDPOINT)


def _asked(call: Callable[[], Any], *, size: int = 0) -> Any:
    """Return what the client brings, which knows no timeout but that of each byte.

    Args:
        call: Asks it.
        size: Bytes that it sends.
    """
    return in_time(hidden_token()(call), _ANSWER + size / _SLOWEST)


def _make_place(client: Any, target: HubRepo, *, private: bool) -> None:
    client.create_repo(target.repo, private=private or None, exist_ok=True)
    if private and not client.model_info(target.repo).private:
        raise InvalidSetting(
            f"{target.repo}: is there already and public, which --private does not change; "
            "nothing was sent"
        )
    if target.revision != "main":
        client.create_branch(target.repo, branch=target.revision, exist_ok=True)


def _files(folder: Path, card: Card, target: HubRepo) -> list[Any]:
    from huggingface_hub import CommitOperationAdd

    kept = kept_words(read_readme(folder)) or ""
    readme = write_readme(card, str(target).removeprefix("hf:"), kept=kept)
    weights = CommitOperationAdd(WEIGHTS_NAME, str(folder / WEIGHTS_NAME))
    if weights.upload_info.sha256.hex() != card.provenance.sha256:
        raise CorruptFile(f"{folder}: not pushed, other weights came there meanwhile; push again")
    return [
        weights,
        CommitOperationAdd(CARD_NAME, card.to_json().encode()),
        CommitOperationAdd(README_NAME, readme.encode()),
    ]


def _refusal(error: Exception, target: HubRepo) -> str | None:
    """Return in words of ours what the client raised; ``None`` for what it does not raise."""
    from huggingface_hub import errors

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # what kept a large file from being uploaded
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no branch {target.revision!r}"
    if isinstance(error, errors.HfHubHTTPError):
        return _reason(error.response.status_code)
    if isinstance(error, (http_error(), OSError)):
        kind = type(error).__name__
        return f"the connection broke ({kind}); push again, what is there is not sent twice"
    if isinstance(error, ValueError | KeyError | TypeError):
        return f"the client does not understand the Hub's answer ({type(error).__name__})"
    return None


def _reason(status: int) -> str:
    known = {
        401: f"the Hub does not accept the token; {_LOGIN}",
        403: "the token may not write there; it needs the write role, and you the right",
        404: "there is no such repository, or the token may not see it",
        409: "somebody else is changing it, or its name is taken; try again",
        412: "somebody else committed meanwhile; try again",
        413: "the Hub takes no file that large",
        429: "the Hub asks for patience; try again later",
    }
    return known.get(status, f"the Hub answers {status}; try again")

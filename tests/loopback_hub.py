"""A Hugging Face Hub on this machine's loopback, for the real client to be driven against.

    with LoopbackHub(tokens=("hf_good",)) as hub:
        commit = hub.add("org/net", {"config.json": b"{}", "model.safetensors": weights})
        hub.attach(monkeypatch, tmp_path)  # for a subprocess: hub.environment(tmp_path)
        hub.faults.append(Fault("GET /_lfs", cut_after=1000, times=1))
        ...
        assert hub.asked("GET", "model.safetensors") == 1

It speaks what the client asks of huggingface.co to read and to push: files with their ETag and
commit, large ones by LFS on another origin, branches, tags, pull requests, private and gated
repositories. `hub.files["/some/path"] = b"..."` is served as it is, for plain downloads.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

LFS_SUFFIXES = (".safetensors", ".bin", ".ckpt", ".pth", ".pt", ".zip")


@dataclass
class Fault:
    """What goes wrong with the requests that it meets.

    Attributes:
        pattern: Regular expression searched in ``"METHOD /path"``.
        status: Answer with this status and an error instead.
        message: The error's words; ``{token}`` in them is the token that was sent.
        code: ``X-Error-Code`` of the error, such as ``RepoNotFound``.
        body: Send these bytes instead of the file's.
        vanishes: Close the connection without a word.
        endless: Say ``100 Continue`` for seconds, and nothing else.
        cut_after: Promise the whole length, then close the connection after so many bytes.
        holds: Keep it open instead, without a word, until the client closes it.
        headers: Put over the answer's own; ``None`` leaves one out.
        times: How many requests; ``None`` is all.
    """

    pattern: str
    status: int | None = None
    message: str = "a fault"
    code: str = ""
    body: bytes | None = None
    vanishes: bool = False
    endless: bool = False
    cut_after: int | None = None
    holds: bool = False
    headers: Mapping[str, str | None] = field(default_factory=dict)
    times: int | None = None


class Request(NamedTuple):
    """One line of the log."""

    method: str
    path: str
    status: int
    authorised: bool


class Entry(NamedTuple):
    """One file of a commit: its git or LFS digest, which is where its bytes are kept."""

    digest: str
    lfs: bool


@dataclass
class Repo:
    """A repository: every commit is a whole tree."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, Entry]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str) -> str | None:
        """Return the commit of a branch, a tag or a commit's own name."""
        known = {**{sha: sha for sha in self.commits}, **self.tags, **self.branches}
        return known.get(revision)


class LoopbackHub:
    """The server and what it keeps; a context, within which it answers.

    Args:
        tokens: Those that it knows; each may do everything.
        user: Whose they are.

    Attributes:
        url: What ``HF_ENDPOINT`` has to be.
        repos: By ``org/name``.
        files: Bytes by path, served plainly.
        ignored: Paths that it takes no upload of, as a ``.gitignore`` there would have it.
        faults: What shall go wrong; the first that fits a request is taken.
        log: Every request.
    """

    def __init__(self, *, tokens: tuple[str, ...] = ("hf_good",), user: str = "me") -> None:
        self.tokens, self.user = tokens, user
        self.repos: dict[str, Repo] = {}
        self.files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.ignored: set[str] = set()
        self.log: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.RLock()
        handler = type("HubHandler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        # Large files lie on another origin, as the Hub's do: the client sends no token there.
        self.storage = f"http://localhost:{port}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self,
        repo_id: str,
        files: Mapping[str, bytes | str],
        *,
        revision: str = "main",
        private: bool | None = None,
        gated: bool | None = None,
        tag: str | None = None,
    ) -> str:
        """Commit files to a branch, making the repository if need be; return the commit."""
        with self.lock:
            repo = self.repos.setdefault(repo_id, Repo())
            repo.private = repo.private if private is None else private
            repo.gated = repo.gated if gated is None else gated
            tree = dict(repo.commits.get(repo.branches.get(revision, ""), {}))
            for path, data in files.items():
                data = data.encode() if isinstance(data, str) else data
                tree[path] = self.keep(data, lfs=path.endswith(LFS_SUFFIXES))
            commit = self.commit(repo, revision, tree, "add")
            if tag is not None:
                repo.tags[tag] = commit
            return commit

    def read(self, repo_id: str, path: str, revision: str = "main") -> bytes:
        """Return a file's bytes as they are kept."""
        repo = self.repos[repo_id]
        return self.blobs[repo.commits[repo.find(revision) or ""][path].digest]

    def asked(self, method: str, part: str = "") -> int:
        """Return how many requests of a method there were whose path holds a part."""
        return sum(r.method == method and part in r.path for r in self.log)

    def environment(self, home: Path, *, token: str | None = None) -> dict[str, str]:
        """Return what a subprocess's environment needs for its client to come here."""
        settings = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        return settings if token is None else {**settings, "HF_TOKEN": token}

    def attach(
        self, monkeypatch: pytest.MonkeyPatch, home: Path, *, token: str | None = None
    ) -> None:
        """Lead this process's client here for the rest of a test, with a home of its own."""
        from huggingface_hub import constants

        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", self.url)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        if token is not None:
            monkeypatch.setenv("HF_TOKEN", token)

    def keep(self, data: bytes, *, lfs: bool) -> Entry:
        """Keep bytes under their digest."""
        head = b"blob %d\0" % len(data)
        digest = hashlib.sha256(data) if lfs else hashlib.sha1(head + data)
        self.blobs[digest.hexdigest()] = data
        return Entry(digest.hexdigest(), lfs)

    def commit(self, repo: Repo, branch: str, tree: dict[str, Entry], title: str) -> str:
        """Make a tree a branch's newest commit; return its name."""
        content = [len(repo.commits), branch, title, *sorted(tree.items())]
        sha = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        repo.commits[sha], repo.titles[sha], repo.branches[branch] = tree, title, sha
        return sha


class _Refused(Exception):
    """Ends a request with an error that the client reads from its headers."""

    def __init__(self, status: int, code: str = "", message: str = "", commit: str = "") -> None:
        self.status, self.message = status, message
        named = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self.headers = {name: value for name, value in named.items() if value}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the hub's log holds it."""

    def handle_request(self) -> None:
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.payload = self._read_payload()
        self.fault = self._take_fault(f"{self.command} {path}")
        if self.fault and self.fault.vanishes:
            self.close_connection = True
            return None
        if self.fault and self.fault.endless:
            return self._continue()
        try:
            if self.fault and self.fault.status:
                words = self.fault.message.format(token=self.token)
                raise _Refused(self.fault.status, self.fault.code, words)
            if self.token and self.token not in self.hub.tokens:
                raise _Refused(401, "", "Invalid credentials in Authorization header")
            if path in self.hub.files:
                data = self.hub.files[path]
                return self._send_file(data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'})
            for methods, pattern, answer in _ROUTES:
                if self.command in methods and (found := re.fullmatch(pattern, url.path)):
                    # A branch may have a slash in its name, which comes quoted.
                    parts = {name: unquote(part) for name, part in found.groupdict().items()}
                    return answer(self, **parts)
            raise _Refused(404, "", f"there is no {self.command} {path}")
        except _Refused as refused:
            self._send_json({"error": refused.message}, refused.status, refused.headers)

    def _continue(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            for _ in range(3000):  # a client that is not listened to may never hang up
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.001)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request  # noqa: N815 - http.server's names

    def _read_payload(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while length := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _take_fault(self, request: str) -> Fault | None:
        with self.hub.lock:
            for fault in self.hub.faults:
                if fault.times != 0 and re.search(fault.pattern, request):
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None

    def _send(self, data: bytes, status: int, headers: Mapping[str, str]) -> None:
        fault = self.fault or Fault("")
        authorised = self.token in self.hub.tokens
        self.hub.log.append(Request(self.command, self.path, status, authorised))
        # Without keep-alive, as the client's connections would outlive the server.
        self.close_connection = True
        length = {"Content-Length": str(len(data)), "Connection": "close"}
        self.send_response(status)
        for name, value in {**length, **headers, **fault.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: fault.cut_after])
        if fault.holds:
            self.wfile.flush()
            self.connection.recv(1)

    def _send_json(
        self, content: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        data = json.dumps(content).encode()
        self._send(data, status, {"Content-Type": "application/json", **(headers or {})})

    def _send_file(self, data: bytes, headers: Mapping[str, str]) -> None:
        headers = {"Accept-Ranges": "bytes", **headers}
        if self.fault and self.fault.body is not None:
            data = self.fault.body
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self._send(data, 200, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        if first > last:
            return self._send(b"", 416, {**headers, "Content-Range": f"bytes */{len(data)}"})
        part = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return self._send(data[first : last + 1], 206, part)

    def _repo(self, repo_id: str, *, write: bool = False) -> Repo:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and not self.token):
            raise _Refused(404 if self.token else 401, "RepoNotFound", "Repository not found")
        if repo.gated and not self.token:
            raise _Refused(401, "GatedRepo", f"Access to model {repo_id} is restricted")
        if write:
            self._check_user()
        return repo

    def _check_user(self) -> None:
        if not self.token:
            raise _Refused(401, "", "Invalid username or password")

    def _commit_of(self, repo: Repo, revision: str) -> str:
        if (sha := repo.find(revision)) is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # Reading

    def send_entry(self, repo: str, revision: str, path: str) -> None:
        found = self._repo(repo)
        sha = self._commit_of(found, revision)
        entry = found.commits[sha].get(path)
        if entry is None:
            raise _Refused(404, "EntryNotFound", "Entry not found", commit=sha)
        data, etag = self.hub.blobs[entry.digest], f'"{entry.digest}"'
        if not entry.lfs:
            return self._send_file(data, {"ETag": etag, "X-Repo-Commit": sha})
        place = f"{self.hub.storage}/_lfs/{entry.digest}"
        linked = {"X-Linked-ETag": etag, "X-Linked-Size": str(len(data)), "X-Repo-Commit": sha}
        return self._send(b"", 302, {"Location": place, **linked})

    def send_blob(self, digest: str) -> None:
        if digest not in self.hub.blobs:
            raise _Refused(404, "", "no such object")
        self._send_file(self.hub.blobs[digest], {"ETag": f'"{digest}"'})

    def send_info(self, repo: str, revision: str = "main") -> None:
        found = self._repo(repo)
        sha = self._commit_of(found, revision)
        names = [{"rfilename": path} for path in sorted(found.commits[sha])]
        about = {"id": repo, "modelId": repo, "sha": sha, "private": found.private, "tags": []}
        self._send_json({**about, "siblings": names})

    def send_tree(self, repo: str, revision: str) -> None:
        found = self._repo(repo)
        items: list[dict[str, Any]] = []
        for path, entry in sorted(found.commits[self._commit_of(found, revision)].items()):
            size = len(self.hub.blobs[entry.digest])
            item = {"type": "file", "path": path, "size": size, "oid": entry.digest}
            lfs = {"oid": entry.digest, "size": size, "pointerSize": 130}
            items.append({**item, "lfs": lfs} if entry.lfs else item)
        self._send_json(items)

    def send_refs(self, repo: str) -> None:
        found = self._repo(repo)
        branches, tags = (
            [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c} for n, c in refs.items()]
            for kind, refs in (("heads", found.branches), ("tags", found.tags))
        )
        self._send_json({"branches": branches, "tags": tags, "converts": []})

    def send_user(self) -> None:
        self._check_user()
        auth = {"accessToken": {"displayName": "test", "role": "write"}}
        self._send_json({"type": "user", "name": self.hub.user, "orgs": [], "auth": auth})

    # Writing

    def create_repo(self) -> None:
        self._check_user()
        asked = json.loads(self.payload)
        repo_id = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        known = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}
        if repo_id in self.hub.repos:
            return self._send_json({**known, "error": "You already created this model repo"}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.add(repo_id, {".gitattributes": "*.safetensors filter=lfs\n"}, private=private)
        return self._send_json(known)

    def check_card(self) -> None:
        self._send_json({"errors": [], "warnings": []})

    def choose_uploads(self, repo: str, revision: str) -> None:
        found = self._repo(repo, write=True)
        tree = found.commits[self._commit_of(found, revision)]
        paths = [file["path"] for file in json.loads(self.payload)["files"]]
        answers = [
            {
                "path": path,
                "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": path in self.hub.ignored,
                "oid": tree[path].digest if path in tree else None,
            }
            for path in paths
        ]
        self._send_json({"files": answers})

    def place_lfs(self, repo: str) -> None:
        self._repo(repo, write=True)
        objects = []
        for wanted in json.loads(self.payload)["objects"]:
            item = {"oid": wanted["oid"], "size": wanted["size"]}
            if item["oid"] not in self.hub.blobs:
                upload = {"href": f"{self.hub.storage}/_lfs/{item['oid']}"}
                item["actions"] = {"upload": upload, "verify": {"href": f"{self.hub.url}/_verify"}}
            objects.append(item)
        self._send_json({"transfer": "basic", "objects": objects})

    def take_lfs(self, digest: str) -> None:
        if hashlib.sha256(self.payload).hexdigest() != digest:
            raise _Refused(400, "", "other bytes than announced")
        self.hub.blobs[digest] = self.payload
        self._send(b"", 200, {})

    def verify_lfs(self) -> None:
        asked = json.loads(self.payload)
        whole = len(self.hub.blobs.get(asked["oid"], b"")) == asked["size"]
        self._send_json({}, 200 if whole else 404)

    def take_commit(self, repo: str, revision: str) -> None:
        with self.hub.lock:
            found = self._repo(repo, write=True)
            head = self._commit_of(found, revision)
            tree, title = dict(found.commits[head]), ""
            for line in self.payload.splitlines():
                operation = json.loads(line)
                value = operation["value"]
                if operation["key"] == "header":
                    title = value["summary"]
                elif operation["key"] == "file":
                    data = base64.b64decode(value["content"])
                    tree[value["path"]] = self.hub.keep(data, lfs=False)
                elif operation["key"] == "lfsFile" and value["oid"] in self.hub.blobs:
                    tree[value["path"]] = Entry(value["oid"], lfs=True)
                elif operation["key"] == "deletedFile":
                    tree.pop(value["path"], None)
                else:
                    raise _Refused(400, "", f"cannot be done: {operation['key']}")
            opened = {}
            if self.query.get("create_pr") == ["1"]:
                number = 1 + sum(name.startswith("refs/pr/") for name in found.branches)
                revision = f"refs/pr/{number}"
                opened = {"pullRequestUrl": f"{self.hub.url}/{repo}/discussions/{number}"}
            sha = self.hub.commit(found, revision, tree, title)
        url = f"{self.hub.url}/{repo}/commit/{sha}"
        self._send_json({"success": True, "commitOid": sha, "commitUrl": url, **opened})

    def make_branch(self, repo: str, name: str) -> None:
        start = json.loads(self.payload or b"{}").get("startingPoint") or "main"
        self._make_ref(repo, "branches", name, start)

    def make_tag(self, repo: str, start: str) -> None:
        self._make_ref(repo, "tags", json.loads(self.payload)["tag"], start)

    def _make_ref(self, repo: str, kind: str, name: str, start: str) -> None:
        found = self._repo(repo, write=True)
        refs: dict[str, str] = getattr(found, kind)
        if name in refs:
            raise _Refused(409, "", "Reference already exists")
        refs[name] = self._commit_of(found, start)
        self._send_json({})


_REPO = r"(?P<repo>[^/]+/[^/]+?)"
_REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
_DIGEST = r"/_lfs/(?P<digest>[0-9a-f]{64})"
_ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("GET", "HEAD"), rf"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", _Handler.send_entry),
    (("GET", "HEAD"), _DIGEST, _Handler.send_blob),
    (("GET",), rf"/api/models/{_REPO}", _Handler.send_info),
    (("GET",), rf"/api/models/{_REPO}/revision/{_REVISION}", _Handler.send_info),
    (("GET",), rf"/api/models/{_REPO}/tree/{_REVISION}", _Handler.send_tree),
    (("GET",), rf"/api/models/{_REPO}/refs", _Handler.send_refs),
    (("GET",), r"/api/whoami-v2", _Handler.send_user),
    (("POST",), r"/api/repos/create", _Handler.create_repo),
    (("POST",), r"/api/validate-yaml", _Handler.check_card),
    (("POST",), rf"/api/models/{_REPO}/preupload/{_REVISION}", _Handler.choose_uploads),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.place_lfs),
    (("PUT",), _DIGEST, _Handler.take_lfs),
    (("POST",), r"/_verify", _Handler.verify_lfs),
    (("POST",), rf"/api/models/{_REPO}/commit/{_REVISION}", _Handler.take_commit),
    (("POST",), rf"/api/models/{_REPO}/branch/(?P<name>.+)", _Handler.make_branch),
    (("POST",), rf"/api/models/{_REPO}/tag/(?P<start>.+)", _Handler.make_tag),
]

"""The house rules: what keeps the whole as it was meant, whatever a single module does."""

import ast
import hashlib
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import resnet_hub

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "resnet_hub"
MODULES = sorted(PACKAGE.rglob("*.py"))
STANDARD_LICENCE = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def python(*arguments: str) -> str:
    """Run this interpreter in the checkout; where it fails, the test does, with what it printed."""
    run = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    if run.returncode:
        pytest.fail(f"{run.stdout}{run.stderr}", pytrace=False)
    return run.stdout


def imported_by(code: str) -> set[str]:
    """Return the top-level names of what is imported once ``code`` has run in a new process."""
    loaded = python("-c", f"{code}\nimport sys; print(*sys.modules)")
    return {name.partition(".")[0] for name in loaded.split()}


def test_ruff_finds_nothing():
    python("-m", "ruff", "check", "--no-cache")


def test_every_file_is_formatted():
    python("-m", "ruff", "format", "--check", "--no-cache")


def test_the_package_is_typed_strictly():
    assert _pyproject()["tool"]["mypy"]["strict"] is True
    assert (PACKAGE / "py.typed").is_file()
    python("-m", "mypy")


def test_imports_point_only_down():
    python(
        "-c",
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))",
    )


def test_importing_the_package_imports_no_torch():
    assert not imported_by("import resnet_hub") & {"torch", "lightning", "numpy"}


def test_a_net_needs_no_lightning_torchvision_or_torchmetrics():
    loaded = imported_by("from resnet_hub import ResNet")
    assert "torch" in loaded
    assert not loaded & {"lightning", "pytorch_lightning", "torchvision", "torchmetrics"}


def test_every_public_name_resolves():
    python("-c", "import resnet_hub as r; [getattr(r, name) for name in r.__all__]")


def test_type_checkers_and_python_find_each_public_name_in_the_same_module():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == resnet_hub._HOMES


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'ResNot'"):
        resnet_hub.ResNot  # noqa: B018


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_longer_than_300_lines(module: Path):
    lines = len(module.read_text("utf-8").splitlines())
    assert lines <= 300


def test_no_module_is_called_utils():
    assert not {path.stem for path in MODULES} & {"util", "utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_signatures_are_explicit(module: Path):
    problems = []
    for owner, function in _public_functions(ast.parse(module.read_text("utf-8"))):
        arguments = function.args
        if arguments.kwarg:
            problems.append(f"{owner}{function.name}: **{arguments.kwarg.arg}")
        problems += [
            f"{owner}{function.name}: a mutable default"
            for default in (*arguments.defaults, *arguments.kw_defaults)
            if isinstance(default, ast.List | ast.Dict | ast.Set)
        ]
    assert problems == []


def test_the_package_asserts_nothing():
    asserting = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert asserting == []


def test_no_file_names_a_path_of_one_machine():
    # Put together here, so that this file does not match itself.
    places = [f"/{folder}/" for folder in ("work", "root", "home")] + ["/tmp/" + "venv"]
    pattern = re.compile(r"(?<![\w.~-])(" + "|".join(map(re.escape, places)) + ")")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in _files_of_the_repository()
        if (match := pattern.search(path.read_bytes().decode("utf-8", errors="ignore")))
    ]
    assert found == []


def test_the_version_is_written_once_and_the_citation_agrees():
    project = _pyproject()
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "resnet_hub/__init__.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == resnet_hub.__version__


def test_the_installed_distribution_has_the_package_version():
    try:
        installed = metadata.version("resnet-hub")
    except metadata.PackageNotFoundError:
        pytest.skip("resnet-hub is not installed here, only on the path")
    assert installed == resnet_hub.__version__


def test_the_licence_is_apache_2_word_for_word():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == STANDARD_LICENCE
    assert _pyproject()["project"]["license"] == "Apache-2.0"


def test_every_upper_bound_of_a_dependency_has_its_reason_beside_it():
    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    bounded = [line for line in lines if re.match(r'\s+"[\w\[\]-]+[^"]*(<|==|~=)\d', line)]
    assert [line for line in bounded if "#" not in line] == []


def test_the_changelog_has_a_weights_heading_for_what_comes_next():
    unreleased = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1]
    assert unreleased.startswith("Unreleased")
    assert "\n### Weights\n" in unreleased


def _pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def _files_of_the_repository() -> list[Path]:
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip(f"git lists no files here: {listing.stderr.strip()}")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


def _public_functions(tree: ast.Module) -> list[tuple[str, ast.FunctionDef]]:
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            inside = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            found += [(f"{node.name}.", item) for item in inside]
        elif isinstance(node, ast.FunctionDef):
            found.append(("", node))
    return [
        (owner, function)
        for owner, function in found
        if not function.name.startswith("_") or function.name == "__init__"
    ]

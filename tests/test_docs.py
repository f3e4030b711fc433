"""The documents: links lead somewhere, README's first commands are the gate's."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
SET_UP = [
    'pip install -e ".[quickstart]" && resnet-hub fit recipes/quickstart.yaml',
    'pip install -e ".[test]" && pytest',
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_or_heading(document: Path):
    broken = [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", _prose(document))
        if not target.startswith(("https://", "http://")) and not _is_there(document, target)
    ]
    assert broken == []


def test_every_document_is_on_the_map():
    linked = {
        (ROOT / "docs" / target).resolve()
        for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / "docs/index.md").read_text("utf-8"))
    }
    pages = {path.resolve() for path in ROOT.glob("docs/**/*.md")} - {ROOT / "docs/index.md"}
    assert sorted(pages - linked) == []


def test_readme_opens_with_one_sentence_and_the_two_set_up_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert fences[:2] == [("bash", f"{command}\n") for command in SET_UP]
    opening = text[: text.index("```")].split("\n", 1)[1].strip()
    assert len(re.findall(r"[.!?](\s|$)", opening)) == 1


def test_the_gate_reads_exactly_these_two_commands_out_of_readme():
    gate = subprocess.run(
        ["bash", ROOT / ".ci/run", "--list"], capture_output=True, text=True, check=True
    )
    assert gate.stdout.splitlines() == SET_UP


def _prose(document: Path) -> str:
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def _is_there(document: Path, target: str) -> bool:
    path, _, heading = target.partition("#")
    page = (document.parent / path).resolve() if path else document
    if not page.exists():
        return False
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE) if heading else []
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
    return not heading or heading in anchors


def test_every_row_of_the_fault_matrix_has_a_test_and_every_marked_test_a_row():
    rows = re.findall(
        r"^\| ([A-Z]\d+) \|", (ROOT / "docs/faults.md").read_text("utf-8"), re.MULTILINE
    )
    texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    marked = {row for text in texts for row in re.findall(r'mark\.fault\("(\w+)"\)', text)}
    assert len(set(rows)) == len(rows) > 40
    assert set(rows) == marked

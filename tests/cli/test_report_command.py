"""``resnet-hub report``: what its pages hold, and that they need nothing else."""

import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from small_runs import command, fit, refusal
from study_folder import finding, write_study

from resnet_hub.nets.resnet import ResNet
from resnet_hub.weights.card import read_card

HOSTILE = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    flags = ("--trainer.limit_train_batches=30", "--schedule.warmup=0")
    return fit(tmp_path_factory.mktemp("runs") / "run", *flags)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def page(out: Path, *arguments: object) -> str:
    """Write a page and return its HTML, after a look that nothing in it runs or is fetched."""
    assert command("report", *arguments, "--out", out) == 0
    html = out.read_text("utf-8")
    assert re.findall(r"<(?:script|link(?! rel=\"icon\")|iframe|object)", html) == []
    addresses = re.findall(r'(?:src|(?<!xlink:)href)="([^"]*)"', html)
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(http" not in html
    return html


def text_of(html: str) -> str:
    """Return what is read on a page."""
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub("<[^>]+>", " ", body)).split())


def test_a_runs_page_has_every_part_and_the_numbers_of_its_card(run: Path, tmp_path: Path, capsys):
    html = page(tmp_path / "a.html", run)
    assert capsys.readouterr().out.endswith(f"written: {tmp_path / 'a.html'}\n")
    assert re.findall("<h2[^>]*>([^<]+)", html) == [
        "Learning curves",
        "Scores",
        "Classes",
        "Calibration",
        "Examples",
        "Architecture",
        "Where the time went",
        "What was run",
    ]
    text, card = text_of(html), read_card(run / "model")
    (score,) = card.provenance.scores
    wrong = 360 - round(score.top1 * 360)
    assert f"top-1 error {100 * (1 - score.top1):.2f}%" in text
    assert "recorded, 32-true on cpu" in text
    assert "for this page" in text
    assert card.provenance.sha256 in text
    counts = [int(n) for n in re.findall(r'<td class="wrong"[^>]*>(\d+)</td>', html)]
    assert sum(counts) == wrong
    assert html.count('<img src="data:image/png;base64,') == min(12, wrong) + 12
    assert "269,434" in text
    assert re.search(r"training \d+(\.\d)? s", text)
    assert "batch_size 32" in text
    assert "The temperature was fitted on 180 validation images." in text
    assert html.count("<svg") == 6  # error, loss, rate, two of calibration, pace


def test_a_page_is_the_same_bytes_each_time(run: Path, tmp_path: Path):
    assert page(tmp_path / "a.html", run) == page(tmp_path / "b.html", run)


def test_without_data_the_page_says_what_was_not_measured(run: Path, tmp_path: Path):
    text = text_of(page(tmp_path / "a.html", run, "--no-data"))
    assert "Not measured. The page was asked for without data." in text
    assert "recorded, 32-true on cpu" in text
    assert "for this page" not in text


def test_data_that_are_not_there_are_no_reason_for_no_page(run: Path, tmp_path: Path):
    moved = shutil.copytree(run, tmp_path / "moved")
    recipe = (moved / "recipe.yaml").read_text()
    recipe = recipe.replace("name: Digits", "name: Cifar10").replace("download: true", "")
    (moved / "recipe.yaml").write_text(re.sub(r"root: .*", f"root: {tmp_path / 'nowhere'}", recipe))
    text = text_of(page(tmp_path / "a.html", moved))
    assert "Not measured. The data are not here: " in text
    assert "nowhere" in text


def test_a_run_that_goes_on_has_a_page_of_how_it_stands(run: Path, tmp_path: Path):
    young = shutil.copytree(run, tmp_path / "young", ignore=shutil.ignore_patterns("model"))
    text = text_of(page(tmp_path / "a.html", young))
    assert "The run has not ended." in text
    assert "validation error" in text
    assert "269,434" in text
    shutil.rmtree(young / "checkpoints")
    header, *_ = (young / "metrics.csv").read_text().splitlines(keepends=True)
    (young / "metrics.csv").write_text(header)
    text = text_of(page(tmp_path / "b.html", young))
    assert "Not known before the first checkpoint." in text
    assert "Nothing was logged yet." in text


def test_a_model_is_measured_on_the_data_that_are_named(run: Path, tmp_path: Path):
    html = page(tmp_path / "a.html", run / "model", "--data", "Digits")
    assert "Model" in text_of(html)
    assert "fitted on the tested images themselves" in text_of(html)
    without = text_of(page(tmp_path / "b.html", run / "model"))
    assert "Not measured. Name a data set by --data" in without


def test_other_peoples_words_are_text(tmp_path: Path):
    folder = tmp_path / HOSTILE.replace("/", "")
    net = ResNet("cifar_resnet20", classes=2)
    net.labels = (HOSTILE, "b\u202e")
    net.save_pretrained(folder)
    html = page(tmp_path / "a.html", folder)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_studys_page_has_its_finding_nets_and_differences(run: Path, tmp_path: Path):
    folder = write_study(tmp_path / "study", finding())
    shutil.copytree(run, folder / "net-seed0")
    html = page(tmp_path / "a.html", folder)
    text = text_of(html)
    assert "Deep against flat The deeper net is worse by 3.1 points." in text
    assert "deep <b> 25.00% ± 1.00 20.00 to 30.00" in text
    assert "flat unmeasured unmeasured 0" in text
    assert "+3.10 +1.00 to +5.00 higher" in text
    assert "One length." in text
    assert "net-seed0 cifar_resnet20 1 30 finished" in text
    assert '<img src="data:image/svg+xml;base64,' in html  # as a picture its script does nothing


def test_a_study_that_found_nothing_yet_says_so(tmp_path: Path):
    folder = write_study(tmp_path / "study", finding())
    (folder / "finding.json").unlink()
    text = text_of(page(tmp_path / "a.html", folder))
    assert "Asked Nothing was found yet." in text


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"nets": [{"label": "a"}]}', '{"nets": 3}', '{"sentences": 3}']
)
def test_what_is_no_finding_is_refused(tmp_path: Path, capsys, content: str):
    folder = write_study(tmp_path / "study", finding())
    (folder / "finding.json").write_text(content)
    out = tmp_path / "a.html"
    assert "finding.json: not" in refusal(capsys, "report", folder, "--out", out)
    assert not out.exists()


def test_what_cannot_be_is_refused_before_anything_is_measured(run: Path, tmp_path: Path, capsys):
    assert "a page's name ends in .html" in refusal(capsys, "report", run, "--out", "page.pdf")
    (tmp_path / "a.html").mkdir()
    assert "is a folder" in refusal(capsys, "report", run, "--out", tmp_path / "a.html")
    assert "neither a run, a study nor a model" in refusal(capsys, "report", tmp_path)
    assert "a folder of runs and no study" in refusal(capsys, "report", run.parent)
    checkpoint = next((run / "checkpoints").iterdir())
    assert "a checkpoint; name its run" in refusal(capsys, "report", checkpoint)
    assert "needs one model folder or run" in refusal(capsys, "report", run, run)

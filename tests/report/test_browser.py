"""Pages in a browser: nothing goes wrong, is fetched, is wider than a phone, or stays bright."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from small_runs import command, fit
from study_folder import finding, write_study

from resnet_hub.nets.resnet import ResNet

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PHONE, DESKTOP = 360, 1280
KINDS = ("run", "study", "model")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as started:
        found = next(filter(None, map(shutil.which, NAMES)), None)
        own = started.chromium.executable_path
        if not (path := found or (own if Path(own).is_file() else None)):
            pytest.skip("no Chromium here: `playwright install chromium` fetches one")
        rights = ["--no-sandbox"] if os.geteuid() == 0 else []  # root is refused one
        opened = started.chromium.launch(executable_path=path, args=rights)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TORCH_HOME", str(home / "torch"))
        run = fit(home / "run", "--trainer.limit_train_batches=20", "--schedule.warmup=0")
        study = write_study(home / "study", finding())
        shutil.copytree(run, study / "net-seed0")
        sources = {"run": (run,), "study": (study,), "model": (run / "model", "--data", "Digits")}
        for kind, arguments in sources.items():
            assert command("report", *arguments, "--out", home / f"{kind}.html") == 0
    return {kind: home / f"{kind}.html" for kind in KINDS}


def visit(browser: "playwright.Browser", page: Path, *, width: int, scheme: str = "light"):
    """Open a page; return it, what its console said, and what it asked for."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.as_uri())
    return opened, said, [url for url in asked if not url.startswith("data:")]


def test_tables_of_an_imagenet_net_and_long_names_fit_a_desktop(browser, tmp_path: Path):
    labels = ("a name of several words" * 5, "plain", "x" * 100)
    net = ResNet("resnet50", classes=labels)
    net.save_pretrained(tmp_path / "net")
    for split in ("train", "val"):
        for number, label in enumerate(labels):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            picture = Image.new("RGB", (32, 32), (80 * number, 40, 20))
            picture.save(tmp_path / "data" / split / label / "a.png")
    data = ("--data", "Folder", "--data.root", tmp_path / "data", "--data.workers", 0)
    out = tmp_path / "page.html"
    assert command("report", tmp_path / "net", *data, "--out", out) == 0
    opened, *_ = visit(browser, out, width=DESKTOP)
    hidden = "[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    assert not any(opened.evaluate(hidden))
    opened.context.close()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_in_silence_without_a_network_and_fits(browser, pages, kind: str, width: int):
    opened, said, asked = visit(browser, pages[kind], width=width)
    assert said == []
    assert asked == [pages[kind].as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    beyond = """width => [...document.querySelectorAll("body *")]
        .filter(e => !e.closest(".scroll, .plate, pre") && e.getBoundingClientRect().right > width)
        .map(e => e.outerHTML.slice(0, 80))"""
    assert opened.evaluate(beyond, width) == []
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert opened.evaluate(broken) == 0
    opened.context.close()


@pytest.mark.parametrize("kind", KINDS)
def test_dark_mode_is_dark_and_can_be_read(browser, pages, kind: str):
    ink = """() => {
        const light = css => css.match(/[\\d.]+/g).slice(0, 3).map(Number)
            .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const paper = light(getComputedStyle(document.documentElement).backgroundColor);
        const inks = ["h1", ".note, .kind", "svg text"].map(name => document.querySelector(name))
            .filter(e => e).map(e => getComputedStyle(e)).map(s => light(s.color));
        const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        return [paper, inks.map(i => contrast(i, paper))];
    }"""
    found = {}
    for scheme in ("light", "dark"):
        opened, *_ = visit(browser, pages[kind], width=DESKTOP, scheme=scheme)
        found[scheme] = opened.evaluate(ink)
        opened.context.close()
    (bright, light_contrasts), (dark, dark_contrasts) = found["light"], found["dark"]
    assert bright > 0.9
    assert dark < 0.05
    assert min(*light_contrasts, *dark_contrasts) >= 4.5  # WCAG 2.1, 1.4.3


def test_lines_of_a_chart_take_the_schemes_colours(browser, pages):
    strokes = "() => getComputedStyle(document.querySelector('svg path[style*=\"--c0\"]')).stroke"
    colours = set()
    for scheme in ("light", "dark"):
        opened, *_ = visit(browser, pages["run"], width=DESKTOP, scheme=scheme)
        colours.add(opened.evaluate(strokes))
        opened.context.close()
    assert len(colours) == 2

"""Charts within a page."""

import re

from resnet_hub.figures import PALETTE, Line, draw
from resnet_hub.report.inline import chart, inline, page_style


def drawn(name: str) -> str:
    with page_style():
        figure, axes = chart()
        draw(axes, Line([1, 2], [1, 2], colour=PALETTE[1]))
        axes.set_xlabel("<b>")
        return inline(figure, name=name, told='a "line"')


def test_letters_and_lines_are_in_the_pages_colours():
    svg = drawn("one")
    assert "var(--c1)" in svg
    assert "currentColor" in svg
    assert re.findall("#[0-9a-f]{6}", svg, re.IGNORECASE) == []
    assert "font-family" not in svg


def test_no_style_of_its_own_leaves_the_chart_and_no_id_meets_anothers():
    svg, other = drawn("one"), drawn("two")
    assert "<style" not in svg
    assert "<metadata" not in svg
    ids, others = (set(re.findall(r'id="([^"]+)"', text)) for text in (svg, other))
    assert ids
    assert not ids & others
    named = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    assert {a or b for a, b in named} <= ids


def test_what_it_shows_is_said_and_escaped():
    svg = drawn("one")
    assert svg.startswith('<svg role="img" aria-label="a &quot;line&quot;" viewBox="0 0 ')
    assert "&lt;b&gt;" in svg
    assert drawn("one") == svg

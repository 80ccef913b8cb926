"""The one-page report, in a real browser with no network: it asks for nothing, runs nothing,
and fits a phone."""

import html
import re

import numpy as np
import pandas as pd
import pytest

from course_utils import figures
from course_utils.research import report
from pages import visit_file as visit

HOSTILE = [
    "<img src=x onerror=\"document.title='broken'\">",
    "</script><script>document.title='broken'</script>",
    (
        "</pre></details></table><iframe src='https://example.org'></iframe><link "
        "rel=stylesheet href=//example.org/x.css>"
    ),
    "{{ 7*191 }} {% include '/etc/passwd' %} &amp; \" onload=\"document.title='broken'",
    "\u202eright to left\u2067 again שלום",
]
TABLES = {
    "Layer ablation": pd.DataFrame(
        {
            "arm": ["2 layers", "4 layers"],
            "parameters": [1_655_808, 3_228_672],
            "perplexity": [5.4963, 5.0387],
            "elapsed_s": [45.678, 1234.56],
            "learning_rate": [1e-4, np.nan],
            "seeds": [2, 2],
        }
    ),
    "Generation comparison": pd.DataFrame(
        {"arm": HOSTILE, "text": [text * 3 + "\nand more" for text in HOSTILE]}
    ),
    HOSTILE[0]: pd.DataFrame({HOSTILE[1]: [1]}),
}


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    losses = {"uniform": 4.174, "bigram": 2.486}
    (folder / "saved.png").write_bytes(figures.loss_bars(losses).png())
    pictures = {
        "Losses": figures.loss_bars(losses),
        "Losses in Chinese": figures.loss_bars(losses, language="chinese"),
        HOSTILE[3]: folder / "saved.png",
    }
    facts = {
        "Corpus": "practice corpus, sha256 " + "0123456789abcdef" * 4,
        "Command": "course run " + HOSTILE[0],
    }
    note = "Practice text: not Shakespeare. " + HOSTILE[0]
    return report.write(folder, TABLES, pictures, ["4 layers beat 2.", *HOSTILE], note, facts)


HANDLERS = (
    "[...document.querySelectorAll('*')].flatMap(e => "
    "[...e.attributes]).filter(a => /^on/.test(a.name)).length"
)


@pytest.mark.promise("text")
def test_nothing_is_asked_for_and_nothing_runs(browser, page_file):
    page = visit(browser, page_file)
    assert page.asked == []
    assert page.complaints == []
    assert page.title() == "Shakespeare, Layer by Layer: results"
    assert page.locator("script, iframe, link, object, embed").count() == 0
    assert page.locator("img").count() == 3
    assert page.evaluate(HANDLERS) == 0
    body = page.locator("body").text_content()
    assert [text for text in HOSTILE if text not in body] == [], "hostile text is shown as it is"
    assert "1337" not in body, "nor is a template in it filled in"


@pytest.mark.promise("broken")
def test_unescaped_it_would_be_broken(browser, page_file, tmp_path):
    mutant = tmp_path / "mutant.html"
    mutant.write_text(html.unescape(page_file.read_text("utf-8")), "utf-8")
    page = visit(browser, mutant)
    assert page.locator("iframe, script").count() > 0
    assert page.evaluate(HANDLERS) > 0
    assert page.title() == "Shakespeare, Layer by Layer: results", (
        "the page's own policy still lets nothing run"
    )
    mutant.write_text(mutant.read_text("utf-8").replace("Content-Security-Policy", "x"), "utf-8")
    page = visit(browser, mutant)
    assert page.title() == "broken", "the hostile text can do harm"
    assert page.asked


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_the_screen(browser, page_file, width, scheme):
    page = visit(browser, page_file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("details").evaluate_all("all => all.forEach(e => e.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.locator(".scroll").evaluate_all(
        "all => all.map(e => [e.scrollWidth > e.clientWidth, e.tabIndex])"
    )
    assert {tab for _, tab in boxes} == {0}, "a keyboard can scroll a table"
    assert any(wide for wide, _ in boxes), "a wide table scrolls in its own box"
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    dark, light = sorted((ink, paper), key=lambda color: sum(map(int, re.findall(r"\d+", color))))
    assert (ink if scheme == "light" else paper) == dark
    assert (paper if scheme == "light" else ink) == light
    assert (
        page.locator("img").first.evaluate("e => getComputedStyle(e).backgroundColor")
        == "rgb(255, 255, 255)"
    )


def test_it_reads_in_order(browser, page_file):
    page = visit(browser, page_file)
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h2").all_text_contents() == [
        "What was found",
        "Losses",
        "Losses in Chinese",
        HOSTILE[3],
        *TABLES,
        "How it was made",
    ]
    assert page.locator(".note").text_content().startswith("Practice text: not Shakespeare.")
    targets = page.locator("nav a").evaluate_all(
        "all => all.map(a => document.querySelector(a.getAttribute('href')))"
    )
    assert len(targets) == 8
    assert None not in targets
    images = page.locator("img").evaluate_all(
        "all => all.map(e => [e.alt, e.lang, e.naturalWidth])"
    )
    assert images == [
        ["Loss in nats/character, worst first: uniform 4.174, bigram 2.486.", "en", 910],
        ["损失（奈特/字符），从差到好：均匀分布 4.174, 二元语法 2.486。", "zh", 910],
        [HOSTILE[3], "en", 910],
    ]


def test_tables_are_the_data(browser, page_file):
    rows = (
        visit(browser, page_file)
        .locator("#table-1 + div tr")
        .evaluate_all("all => all.map(e => e.innerText.split('\\t'))")
    )
    assert rows == [
        list(TABLES["Layer ablation"].columns),
        ["2 layers", "1,655,808", "5.496", "45.68", "0.0001", "2"],
        ["4 layers", "3,228,672", "5.039", "1,234.6", "–", "2"],
    ]


def test_a_bare_report_has_no_empty_parts(browser, tmp_path):
    path = report.write(tmp_path / "new folder", {}, {}, ["Nothing yet."])
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    page = visit(browser, path)
    assert page.locator("h2").all_text_contents() == ["What was found"]
    assert page.locator(".note").count() == 0

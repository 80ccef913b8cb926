"""The book, built for real and opened in a real browser that may talk to no other host."""

import ast
import functools
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import parity
import pypdf
import pytest
from filelock import FileLock
from matplotlib.image import imread

from course_utils import figures
from helpers import ROOT, by_path, tree
from pages import AXE, BARRIERS, barriers, end_transitions, go, pale_words, serving, watched

PAGES, CHINESE = (
    re.findall(r"(?:root|file): (\S+)", (ROOT / toc).read_text(encoding="utf-8"))
    for toc in ("_toc.yml", "book/zh/_toc.yml")
)
IN_CHINESE = ["--toc", "book/zh/_toc.yml", "--path-output", "_build/zh"]
OF_EACH_KIND = ("book/intro", "book/results", "notebooks/02_attention", "search")
LESSONS = [page for page in PAGES if page.startswith("notebooks/")]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ADDRESS = re.search(r'^Repository = "(.+)"', PROJECT, re.MULTILINE)[1]
STRAY = (
    "results/a.md",
    ".pytest_cache/README.md",
    ".venv/lib/x/README.md",
    "notebooks/.ipynb_checkpoints/a.ipynb",
)

PROBLEMS = """() => {
  const found = [], all = (selector) => [...document.querySelectorAll(selector)];
  for (const image of document.images)
    if (!/\\w \\w|[\u4e00-\u9fff]{2}/.test(image.alt)) found.push("no alt text: " + image.src);
  for (const image of document.images)
    if (!image.naturalWidth) found.push("no picture: " + image.src);
  for (const math of all(".math"))
    if (!math.querySelector("mjx-container")) found.push("not set: " + math.textContent);
  for (const error of all("mjx-merror, mtext[mathcolor=red]"))
    found.push("wrong formula: " + error.textContent);
  const cut = (pre) => innerWidth > 1200 && pre.scrollWidth > pre.clientWidth + 1;
  for (const pre of all("div.cell_input pre").filter(cut))
    found.push("code is cut: " + pre.textContent.slice(0, 80));
  if (document.documentElement.scrollWidth > innerWidth)
    found.push("scrolls sideways at " + innerWidth);
  return found;
}"""
FACTS = """() => ({
  levels: [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].map(
    (h) => Number(h.tagName[1])),
  formulas: document.querySelectorAll("article mjx-container").length,
  fonts: [...document.fonts].filter((font) => font.status === "loaded")
    .map((font) => font.family).join(),
  words: [...document.querySelectorAll("article img, article .picture svg:not(.only-dark)")].map(
    (image) => image.alt ?? image.getAttribute("aria-label")),
  links: [...document.links].map((link) => link.href.split("#")[0]),
  buttons: [...document.querySelectorAll(".article-header-buttons a")].map((link) => link.href),
})"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of the built pages, from a copy of the project with what tools
    and runs leave lying about."""
    command = shutil.which("jupyter-book", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip('jupyter-book is not installed: pip install -e ".[book]"')
    root, shared = tmp_path_factory.mktemp("book"), tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # of all workers: one of them builds, each has a copy of its own
    with FileLock(shared / "book.lock"):
        if not (shared / "built").is_dir():
            build(root, command)
            shutil.move(root / "_build/html", shared / "built")
    shutil.copytree(shared / "built", root / "html")
    return root / "html"


def build(root, command):
    """Both languages at a time, into _build/html."""
    for path in tree():
        name = path.relative_to(ROOT)
        if name.parts[0] in ("_config.yml", "_toc.yml", "README.md", "book", "notebooks", "tools"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / name)
    for name in STRAY:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("no title, and a [dead link](nowhere.md)", encoding="utf-8")
    building = [
        subprocess.Popen(
            [command, "build", ".", "-W", "-n", "--keep-going", *options],
            cwd=root,
            env=os.environ | {"COURSE_LANGUAGE": language},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for language, options in {"en": [], "zh": IN_CHINESE}.items()
    ]
    said = [process.communicate()[0] for process in building]
    for process, words in zip(building, said, strict=True):
        assert process.returncode == 0, words[-3000:]
        assert "WARNING" not in words
    shutil.move(root / "_build/zh/_build/html", root / "_build/html/zh")


@pytest.fixture(scope="module")
def site(book):
    with serving(book) as address:
        yield address


@pytest.fixture(scope="module")
def window(browser):
    """One window for all pages, so that what they share is fetched once; it scrolls at once."""
    context = browser.new_context(reduced_motion="reduce")
    yield context
    context.close()


def settle(page, width):
    """Wait until it is that wide, formulas are set, however late MathJax comes, and fonts there."""
    page.wait_for_function(f"innerWidth === {width}")
    end_transitions(page)  # of the theme's sidebars
    page.wait_for_function("!document.querySelector('.math') || window.MathJax?.startup?.promise")
    page.evaluate("window.MathJax?.startup.promise.then(() => document.fonts.ready).then(() => 1)")


@pytest.fixture(scope="module")
def visit(window, site):
    """Opens a page, narrow as on a phone and then wide: {problems, barriers, formulas, words, …}.
    Each is opened once."""

    @functools.cache
    def visit(name):
        page = watched(window.new_page(), site)
        page.set_viewport_size({"width": 390, "height": 844})
        go(page, site + name)
        settle(page, 390)
        page.problems += page.evaluate(PROBLEMS)
        found = barriers(page)
        page.set_viewport_size({"width": 1280, "height": 844})
        settle(page, 1280)
        page.problems += page.evaluate(PROBLEMS)
        if name.removesuffix(".html") in OF_EACH_KIND:
            found += barriers(page)
        facts = page.evaluate(FACTS) | {"problems": [*page.problems]}
        found += pale_words(page)  # last: the theme's scripts miss what this takes away
        page.close()
        return facts | {"barriers": found}

    return visit


def test_all_pages_are_built_and_no_others(book):
    names = {
        path.relative_to(book).as_posix()
        for path in book.rglob("*.html")
        if "_static" not in path.parts
    }
    frame = ["index", "search", "zh/index", "zh/search"]
    chinese = [f"zh/{page}" for page in CHINESE]
    assert names == {f"{page}.html" for page in [*PAGES, *frame, *chinese]}
    assert len(LESSONS) == 6
    assert sum(path.stat().st_size for path in (book / "_static").rglob("*")) < 12e6


ZH = ["zh/book/zh/intro", "zh/book/zh/results", "zh/notebooks/zh/02_attention", "zh/search"]


@pytest.mark.parametrize("name", [*PAGES, "index", "search", *ZH])
def test_a_page_is_whole_and_asks_no_other_host(visit, site, book, name):
    facts = visit(f"{name}.html")
    assert not facts["problems"]
    local = {
        link.removeprefix(site).split("?")[0] for link in facts["links"] if link.startswith(site)
    }
    assert len(local) > 10
    assert not [link for link in local if not (book / link).is_file()], "links that lead nowhere"


@pytest.mark.parametrize("name", [*PAGES, "search", *ZH])
def test_a_page_can_be_read_by_all(visit, name):
    facts = visit(f"{name}.html")
    assert facts["barriers"] == []
    steps = itertools.pairwise([0, *facts["levels"]])
    assert all(below - above <= 1 for above, below in steps), "headings in order"


BARRED = """<button></button><pre>x <a href="#x"></a></pre>
<p style="color: #ccc; background: #fff">Pale in the light.</p>
<style>html[data-theme=dark] .dim { color: #333; background: #222 }</style>
<p>A word.</p><p class="dim">Pale in the dark.</p><p>And <b class="dim">another</b>.</p>"""


def test_a_barrier_is_noticed(visit, book):
    page = (book / "book/notation.html").read_text(encoding="utf-8")
    barred = page.replace("</article>", f"{BARRED}</article>")
    (book / "book/barred.html").write_text(barred, encoding="utf-8")
    found = visit("book/barred.html")["barriers"]
    (book / "book/barred.html").unlink()
    kinds = [barrier.split(":")[0] for barrier in found]
    assert kinds == ["button-name", "link-name"] + 4 * ["color-contrast"]


SPOILT = {
    '<img src="https://example.org/a.png" alt="a picture">': "asks https://example.org/a.png",
    '<script src="https://example.org/a.js"></script>': "asks https://example.org/a.js",
    '<p style="background: url(https://example.org/b.png)">.</p>': "asks https://example.org/b.png",
    '<script>setTimeout(() => fetch("https://example.org/late"), 200)</script>': "asks https://example.org/late",
    '<script src="gone.js"></script>': "404 ",
    "<script>nothing.here()</script>": "script: nothing is not defined",
    '<script>console.error("oh")</script>': "console: oh",
    '<img src="../_static/file.png">': "no alt text: ",
    '<img src="../_static/plus.png" alt="../_images/0f2a.png">': "no alt text: ",
    '<img src="../_static/course.css" alt="a picture">': "no picture: ",
    '<span class="math">x^2</span>': "not set: x^2",
    r'<span class="math notranslate nohighlight">\(\frac\)</span>': (
        "wrong formula: Missing argument for \\frac"
    ),
    r'<span class="math notranslate nohighlight">\(\nosuch\)</span>': "wrong formula: \\nosuch",
    '<p style="width: 600px">wide</p>': "scrolls sideways at 390",
    f'<div class="cell"><div class="cell_input"><pre>{"x" * 130}</pre></div></div>': (
        "code is cut: xxx"
    ),
}


def test_a_spoilt_page_is_noticed(visit, book):
    page, spoilt = (
        (book / "book/notation.html").read_text(encoding="utf-8"),
        book / "book/spoilt.html",
    )
    spoilt.write_text(
        page.replace("</article>", "\n".join(SPOILT) + "</article>"), encoding="utf-8"
    )
    problems = visit("book/spoilt.html")["problems"]
    spoilt.unlink()
    for cause, problem in SPOILT.items():
        assert any(found.startswith(problem) for found in problems), cause
    assert (
        sum(found.startswith("no alt text: ") for found in problems) == 2 * 2
    )  # both pictures, at both widths


def cells(lesson):
    return json.loads((ROOT / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]


def prose(page):
    """What a page's source says outside code."""
    if page in LESSONS:
        text = "\n".join(
            "".join(cell["source"]) for cell in cells(page) if cell["cell_type"] == "markdown"
        )
    else:
        text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    return re.sub(r"(?s)```.*?```|`[^`\n]*`", "", text)


@pytest.mark.parametrize("name", PAGES)
def test_every_formula_is_typeset(visit, name):
    facts = visit(f"{name}.html")
    formulas = re.findall(r"(?s)\$\$.+?\$\$|\$[^$]+\$", prose(name))
    assert facts["formulas"] == len(formulas)
    assert ("MJXTEX" in facts["fonts"]) == bool(formulas), "drawn with the book's own fonts"


@pytest.mark.parametrize("name", LESSONS)
def test_figures_say_in_words_what_they_show(visit, name):
    outputs = [output for cell in cells(name) for output in cell.get("outputs", [])]
    words = [
        output["metadata"]["image/png"]["alt"]
        for output in outputs
        if "image/png" in output.get("data", {})
    ]
    assert words
    assert visit(f"{name}.html")["words"] == words


@pytest.mark.parametrize(
    ("word", "lesson"),
    [("attention", "2 · Attention"), ("perplexity", "4 · Training"), ("注意力", "2 · 注意力")],
)
def test_search_finds_the_lesson(window, site, word, lesson):
    page = watched(window.new_page())
    page.goto(f"{site}{'' if word.isascii() else 'zh/'}search.html?q={word}")
    page.wait_for_selector("#search-results li a")
    page.wait_for_load_state("networkidle")
    results = page.locator("#search-results li > a").all_inner_texts()
    page.close()
    assert any(result.startswith(lesson) for result in results), results


def test_the_chinese_contents_are_the_english_ones_as_far_as_translated():
    twins = [re.sub(r"(.*)/", r"\1/zh/", page) for page in PAGES]
    assert [page for page in twins if [*ROOT.glob(f"{page}.*")]] == CHINESE


def headings(page):
    return re.findall(r'<section[^>]* id="([^"]+)"', page.read_text(encoding="utf-8"))


def test_each_page_leads_to_its_twin_at_the_same_heading(window, site, book):
    for name in CHINESE:
        chinese, english = book / f"zh/{name}.html", book / f"{name.replace('/zh/', '/')}.html"
        assert headings(chinese) == headings(english), name
    page = watched(window.new_page())
    go(page, f"{site}notebooks/02_attention.html#many-heads")
    for words, folder in (("中文", "zh/notebooks/zh"), ("English", "notebooks")):
        settle(page, page.viewport_size["width"])
        page.locator("#many-heads").evaluate(
            "(section) => section.scrollIntoView({ behavior: 'instant' })"
        )
        page.locator(".btn-language", has_text=words).click()
        page.wait_for_url(f"{site}{folder}/02_attention.html#many-heads")
    go(page, f"{site}book/log.html")
    page.locator(".btn-language").click()
    page.wait_for_url(f"{site}zh/book/zh/intro.html")
    page.close()


def test_a_page_says_where_its_chinese_lags_behind(tmp_path):
    languages = by_path("book/_ext/course_languages.py")
    (tmp_path / "book").mkdir()
    english = (
        "# One\n\nOne word.\n\n## Two\n\nTwo words.\n\n## Three\n\nThree or more words here.\n"
    )
    (tmp_path / "book/a.md").write_text(english, encoding="utf-8")
    stamps = [
        languages.translations.digest(u.text) for u in languages.translations.sections(english)
    ]
    chinese = [
        f"% english: {stamps[0]}\n# 一\n\n一。\n",
        "% english: 0000beef\n## 二\n\n二。\n",
        f"% english: {stamps[2]}\n## Three\n\nThree or more words here.\n",
    ]
    content = ["\n".join(chinese)]
    languages.mark_stale(SimpleNamespace(srcdir=tmp_path), "book/zh/a", content)
    one, two, three = re.split(r"^#+ ", content[0], flags=re.MULTILINE)[1:]
    assert "{note}" not in one
    assert "译文还没有跟上" in two
    assert 'href="../../../book/a.html"' in two
    assert "还没有中文译文" in three


HOSTS = {  # that pages may link to, and what follows the host
    "github.com": r"/[\w.-]+/[\w.-]+(/.*)?",
    "colab.research.google.com": r"(/github/.+\.ipynb)?",
    "kaggle.com": r"/kernels/welcome\?src=https://github\.com/.+\.ipynb",
    "codespaces.new": r"/[\w.-]+/[\w.-]+/tree/.+",
    "arxiv.org": r"/abs/\d{4}\.\d{4,5}",
    "doi.org": r"/10\.\d{4,}/\S+",
    "www.python.org": r"/downloads/",
    "pytorch.org": r"/.*",
    "kellerjordan.github.io": r"/posts/muon/",
    "cs231n.github.io": r"/neural-networks-3/",
}


def wrong_links(links, site):
    """Those that leave the book and are not of a form in HOSTS."""
    for link in links:
        host, path = re.match(r"(?:\w+:)?/*([^/]*)(.*)", link).groups()
        if not link.startswith(site) and not (
            link.startswith("https://") and re.fullmatch(HOSTS.get(host, r"(?!)"), path)
        ):
            yield link


@pytest.mark.parametrize("name", PAGES)
def test_every_link_out_of_the_book_is_known_and_well_formed(visit, site, name):
    assert not [*wrong_links(visit(f"{name}.html")["links"], site)]


def test_a_bad_link_is_noticed(site):
    bad = [
        "http://github.com/a/b",
        "https://doi.org/1234",
        "https://arxiv.org/pdf/1706.03762",
        "https://example.org/",
    ]
    assert [*wrong_links([*bad, f"{site}index.html"], site)] == bad


def test_the_architecture_is_drawn_from_the_code(visit):
    (words,) = visit("book/architecture.html")["words"]
    assert "generation uses lessons" in words
    assert "training uses" in words


def test_the_cover_shows_a_text_by_the_model(book):
    cover = (book / "book/intro.html").read_text(encoding="utf-8")
    assert re.search(r'class="[^"]*sample[^"]*notranslate"?[^>]*>.*?ROMEO:', cover, re.DOTALL)
    assert "Written while this page was built, by the recorded model with 6 layers" in cover
    assert 'class="sampler-place"' in cover


@pytest.mark.parametrize("name", ["book/intro", "notebooks/04_train"])
def test_a_page_offers_to_train(book, name):
    """By a link that leads to the playground where there is no JavaScript."""
    page = (book / f"{name}.html").read_text(encoding="utf-8")
    place = r'<div class="training-place"><a href="([^"#]*)#train-one-yourself">'
    (link,) = re.findall(place, page)
    assert ((book / name).parent / link).resolve() == (book / "book/playground.html").resolve()


def test_the_licence_of_what_the_book_carries_lies_beside_it(book):
    carried = book / "_static/mathjax"
    assert (carried / "tex-chtml.js").is_file()
    assert "Apache License" in (carried / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_buttons_lead_to_the_repository(visit, name):
    buttons = visit(f"{name}.html")["buttons"]
    assert ADDRESS in buttons
    opened = ADDRESS.replace("https://github.com/", "https://colab.research.google.com/github/")
    expected = [f"{opened}/blob/main/{name}.ipynb"] if name in LESSONS else []
    assert [link for link in buttons if "colab" in link] == expected


def said_and_printed(page):
    """(line, what its comment says, what Python prints) for each line of a page that shows both."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            source = ast.get_source_segment(block, node)
            _, _, said = lines[node.end_lineno - 1].partition("  # ")
            if isinstance(node, ast.Expr) and said:
                printed = " ".join(repr(eval(source, names)).split())
                yield source, said.replace("[ ", "["), printed.replace("[ ", "[")
            else:
                exec(source, names)


def test_the_primer_prints_what_it_says():
    page = (ROOT / "book/pytorch.md").read_text(encoding="utf-8")
    found = [*said_and_printed(page)]
    assert len(found) > 90
    assert not [line for line in found if line[1] != line[2]]
    spoilt = page.replace("a.sum()  # tensor(21.)", "a.sum()  # tensor(20.)")
    (wrong,) = [line for line in said_and_printed(spoilt) if line[1] != line[2]]
    assert wrong == ("a.sum()", "tensor(20.)", "tensor(21.)")


# --- what readers see first, on dark pages, and on paper ------------------------------------------
def test_readers_pages_come_before_makers():
    makers = ["teaching", "architecture", "performance", "records", "reliability", "log"]
    assert PAGES[-6:] == [f"book/{name}" for name in makers]
    assert {"book/notation", "book/glossary", "book/references"} < set(PAGES[:-6])


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_begins_with_prose_and_plumbing_is_folded(window, site, name):
    page = watched(window.new_page())
    go(page, f"{site}{name}.html")
    folded = page.locator("article details.above-input:not([open])")
    assert "importlib" in folded.first.text_content()
    shown = page.locator("article div.cell_input:visible").all_inner_texts()
    page.close()
    statements = [node for code in shown for node in parsed(code)]
    assert len(statements) > 20, "and nothing else is"
    for code in shown:
        kinds = {type(node) for node in parsed(code)}
        assert not kinds or kinds - {ast.Import, ast.ImportFrom}, code


def parsed(code):
    try:
        return ast.parse(code).body
    except SyntaxError:  # IPython's own
        return []


PAPER = {"width": 794, "height": 1123}  # A4 in a browser's pixels
PRINTED = """(high) => {
  window.dispatchEvent(new Event("beforeprint"));
  const found = [], all = (selector) => [...document.querySelectorAll(`article ${selector}`)];
  for (const pre of all("pre")) if (pre.scrollWidth > pre.clientWidth + 1)
    found.push("code is cut: " + pre.textContent.slice(0, 60));
  for (const picture of all("img, .picture svg")) if (picture.getBoundingClientRect().height > high)
    found.push("a figure is high: " + (picture.alt ?? picture.getAttribute("aria-label")));
  for (const one of all("details")) if (!one.open)
    found.push("folded: " + one.textContent.trim().slice(0, 60));
  for (const one of all("details")) for (const moving of one.getAnimations({subtree: true}))
    if (moving instanceof CSSAnimation) found.push("fades in: " + moving.animationName);
  return found;
}"""


@pytest.mark.parametrize(
    "name", ["notebooks/02_attention", "notebooks/06_sampling", "book/results"]
)
def test_on_paper_no_code_is_cut_and_nothing_is_folded(window, site, name):
    page = watched(window.new_page())
    page.set_viewport_size(PAPER)
    page.emulate_media(media="print")
    go(page, f"{site}{name}.html")
    settle(page, PAPER["width"])
    assert page.evaluate(PRINTED, 0.4 * PAPER["height"]) == []
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    if name in LESSONS:
        assert page.locator("article details:not([open])").count() > 5, "folded again on the screen"
        long = (
            "<pre style='white-space: pre !important'>" + "x" * 200 + "</pre><details>.</details>"
        )
        page.evaluate("(more) => document.querySelector('article').innerHTML += more", long)
        spoilt = page.evaluate(PRINTED.replace('"beforeprint"', '"nothing"'), 50)
        assert {words.split(":")[0] for words in spoilt} == {
            "code is cut",
            "a figure is high",
            "folded",
        }
    page.close()


@pytest.mark.parametrize("name", ["notebooks/02_attention", "book/results"])
def test_on_a_dark_page_no_figure_is_a_bright_slab(window, site, name):
    page = watched(window.new_page())
    page.set_viewport_size({"width": 1280, "height": 1400})  # no picture is taller, none is cut
    page.emulate_media(color_scheme="dark")
    # Subtle: a widget that is put in as its place comes near moves the page. Here none is.
    page.route("**/mount.mjs*", lambda asked: asked.fulfill(content_type="text/javascript"))
    go(page, f"{site}{name}.html")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    settle(page, 1280)  # a formula set late moves all below it
    pictures = page.locator("article img:visible, article .picture svg:visible")
    corners = [corner(picture) for picture in pictures.all()]
    assert len(corners) > 5
    heights = [picture.bounding_box()["height"] for picture in pictures.all()]
    assert max(heights) < 1400, "for a taller one the window would grow, and the page move"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ground = [int(n) for n in re.findall(r"\d+", ground)[:3]]
    for i, found in enumerate(corners):
        far = max(abs(a - b) for a, b in zip(found, ground, strict=True))
        assert far < 16, f"picture {i} is {found} where the page's ground is {ground}"
    charts = page.locator("article .picture svg:visible:not(.only-dark)")
    assert set(charts.evaluate_all(TURNED_OVER)) == {True}, "else dark words on a dark ground"
    page.close()


TURNED_OVER = "(all) => all.map((e) => getComputedStyle(e).filter.startsWith('invert(1)'))"


def corner(picture):
    """The colour of a picture's upper right corner on the screen: red, green, blue."""
    pixels = imread(io.BytesIO(picture.screenshot()))
    return [round(255 * float(value)) for value in pixels[4, -5, :3]]


def test_a_maps_twin_turns_all_but_the_map_and_a_chart_has_none():
    pictures = by_path("book/_ext/course_pictures.py")
    grid = figures.heatmaps(np.arange(25).reshape(5, 5) / 25, title="#222222: a map")
    light, dark = re.findall(r"<svg.*?</svg>", pictures.drawn(grid, "a").astext(), re.DOTALL)
    assert (light.count("only-light"), dark.count("only-dark")) == (1, 1)
    for kept in ("#ffffff", "<image ", "data:image", ">#222222: a map<"):
        assert light.count(kept) == dark.count(kept) > 0, kept
    ink = re.compile(r'(?:fill|stroke)(?:: |=")#(\w+)')
    inks = [set(ink.findall(picture)) for picture in (light, dark)]
    assert {"222222", "eeeeee"} < inks[0]
    assert {"dddddd", "111111"} < inks[1]
    mixed = pictures.drawn(figures.position_similarity({"a": np.ones((9, 3))}), "c").astext()
    inks = [set(ink.findall(half)) for half in mixed.split("only-dark")]
    hues = {colour for colour in inks[0] if len({colour[:2], colour[2:4], colour[4:]}) > 1}
    assert hues, "a curve below a map"
    assert not hues & inks[1], "a dark line is lost in the dark"
    named = [set(re.findall(r'id="([^"]+)"', picture)) for picture in (light, dark)]
    assert named[0]
    assert not named[0] & named[1]
    chart = figures.lines([1, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}, "x", "y")
    assert pictures.drawn(chart, "b").astext().count("<svg") == 1


# --- results --------------------------------------------------------------------------------------
TITLES = """() => [...document.querySelectorAll("article .picture svg")].map((svg) => {
  const words = [...svg.querySelectorAll("text")].filter(
    (text) => parseFloat(text.style.fontSize) >= 13);
  return words.map((text) => text.textContent).join(" ");
})"""


def test_results_begin_with_the_verdict_and_no_title_comes_twice(window, site):
    page = watched(window.new_page())
    page.set_viewport_size({"width": 1280, "height": 900})
    go(page, f"{site}book/results.html")
    first = page.locator("article h1 + p").inner_text()
    assert re.match(r"Four layers predict better than two in \d of 5 frames", first)
    assert re.search(r"Six layers predict better than four in \d of 5 frames", first)
    assert "How sure: 6 paired seeds" in first
    picture = page.locator("article .picture").first.bounding_box()
    section = page.locator("article h2").first.bounding_box()
    assert picture["y"] + picture["height"] < section["y"], "one figure before anything else"
    assert picture["y"] < 450, "on the first screen"
    titles = page.evaluate(TITLES)
    page.close()
    assert len(titles) > 10
    assert all(titles)
    assert len(set(titles)) == len(titles)
    body = "".join(titles)
    assert len(re.findall(r"\d", body)) > 20, "and most say what was found"


def left_in_english(page):
    """Sentences of a page, and of what its pictures say of themselves."""
    article = re.search("<article.*</article>", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    said = re.sub("<svg.*?</svg>|<[^>]*>", "|", article, flags=re.DOTALL)
    pictures = "|".join(re.findall('aria-label="([^"]*)"', article))
    return parity.ENGLISH.findall(f"{said}|{pictures}")


@pytest.mark.parametrize("name", ["results", "teaching"])
def test_no_sentence_that_a_chinese_page_computes_is_english(book, name):
    assert left_in_english(book / f"zh/book/zh/{name}.html") == []
    assert len(left_in_english(book / f"book/{name}.html")) > 100


@pytest.mark.parametrize("name", ZH)
def test_what_stands_around_a_chinese_page_is_chinese(book, name):
    page = (book / f"{name}.html").read_text(encoding="utf-8")
    frame = re.sub("<article.*</article>|<script.*?</script>|<!--.*?-->", "", page, flags=re.DOTALL)
    said = re.findall('(?:title|aria-label|placeholder|alt)="([^"]*)"', frame)
    assert len(said) > 10
    assert {w for w in said if not re.search("[\u4e00-\u9fff]", w)} <= {"This page in English", ""}
    assert "Toggle" not in page


def test_the_verdict_follows_the_comparisons(monkeypatch):
    study = by_path("book/_ext/course_study.py")
    columns = ["frame", "difference", "low", "high", "clear"]
    frames = [
        ("one", -0.2, -0.3, -0.1, True),
        ("two", -0.25, -0.3, -0.1, False),
        ("three", -0.2, -0.3, 0.1, False),
    ]
    said = study.frames_in_words("Four layers", "two", pd.DataFrame(frames, columns=columns))
    assert said == (
        "**Four layers predict better than two in 2 of 3 frames** (one, two), by 0.200 to 0.250 "
        "nats/character, and after correction in 1; no difference is seen in 1 (three)."
    )
    worse = pd.DataFrame([("one", 0.2, 0.1, 0.3, True)], columns=columns)
    assert study.frames_in_words("Six layers", "four", worse) == (
        "**Six layers predict better than four in 0 of 1 frames**; they are worse in 1 (one)."
    )
    said = study.frames_in_words("Six layers", "four", worse.assign(clear=False))
    assert said.endswith("they are worse in 1 (one), and after correction in 0.")
    monkeypatch.setenv("COURSE_LANGUAGE", "zh")
    assert study.frames_in_words("六层", "四层", worse.assign(frame="fair rate")) == (
        "**1 种比较方式中，六层比四层预测得更好的有 0 种**；更差的有 1 种（公平学习率）。"
    )


@pytest.mark.parametrize("name", ["notebooks/02_attention", "book/results"])
def test_on_a_phone_a_figure_scrolls_rather_than_shrink(window, site, name):
    page = watched(window.new_page())
    page.set_viewport_size({"width": 390, "height": 844})
    go(page, f"{site}{name}.html")
    pictures = page.locator("article div.cell_output img:visible, article .picture svg:visible")
    widths = pictures.evaluate_all("all => all.map((e) => e.getBoundingClientRect().width)")
    assert len(widths) > 5
    assert min(widths) > 500
    places = pictures.evaluate_all(
        "all => all.map((e) => e.closest('div.cell_output, .picture'))"
        ".map((e) => [e.scrollWidth > e.clientWidth, e.tabIndex])"
    )
    assert {tuple(place) for place in places} == {(True, 0)}, "and by the keyboard"
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate(BARRIERS, {"runOnly": ["css-orientation-lock"]}) == []
    page.close()


def test_a_lessons_words_lead_to_the_glossary(book):
    glossary = (book / "book/glossary.html").read_text(encoding="utf-8")
    for page in sorted((book / "notebooks").glob("0*.html")):
        words = page.read_text(encoding="utf-8")
        anchors = re.findall(r'<strong><a [^>]*href="../book/glossary.html#([^"]+)"', words)
        assert len(anchors) > 2, page.name
        assert all(f'id="{anchor}"' in glossary for anchor in anchors)


def test_from_the_disk_pages_are_read_searched_and_printed_whole(window, book):
    page = window.new_page()  # not watched: it names the widgets' modules, which no disk gives
    page.goto((book / "notebooks/02_attention.html").as_uri())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("article details[open]").count() > 5
    assert page.locator("article details:not([open])").count() == 0
    page.click(".btn-language")
    page.wait_for_url("**/zh/notebooks/zh/02_attention.html*")
    page.goto((book / "zh/search.html").as_uri() + "?q=注意力")
    page.locator("#search-results li").first.wait_for()
    page.close()


ONE_PAGE = """<html lang="zh"><meta charset="utf-8"><link rel="icon" href="data:,"><style>
body {{ font: 20px var(--pst-font-family-base-system); }} h2 {{ break-after: avoid; }}
p {{ height: 95px; }}
</style><h1>逐层</h1>{}{}</html>"""


def test_a_printed_book_has_each_bookmark_once_and_signs_for_chinese(browser, tmp_path):
    forms = by_path("tools/forms.py")
    headings = [f"标题 {i}" for i in range(40)]
    picture = figures.heatmaps(np.eye(2), title="A map")
    words = "".join(f"<h2>{heading}</h2><p>正文</p>" for heading in headings)
    (tmp_path / "index.html").write_text(
        ONE_PAGE.format(picture.svg("map"), words), encoding="utf-8"
    )
    forms.printed(browser, tmp_path, tmp_path / "book.pdf")
    twice = pypdf.PdfWriter(clone_from=tmp_path / "book.pdf")
    twice.add_outline_item(
        title="The endThe end", page_number=0
    )  # as Chromium has it of some headings
    twice.write(tmp_path / "book.pdf")
    forms.say_once(tmp_path / "book.pdf")
    pdf = pypdf.PdfReader(tmp_path / "book.pdf")
    bookmarks = [bookmark.title for bookmark in forms.flat(pdf.outline)]
    assert bookmarks == ["逐层", *headings, "The end"]
    assert "".join(page.extract_text() for page in pdf.pages).count("标题") == len(headings)
    assert any(
        one.get("/Alt") == picture.get_label()
        for one in tags(pdf.trailer["/Root"]["/StructTreeRoot"])
    )


def tags(node):
    """All elements below one of a tagged PDF."""
    below = node.get("/K", [])
    for one in below if isinstance(below, list) else [below]:
        one = one.get_object()
        if isinstance(one, dict):
            yield one
            yield from tags(one)

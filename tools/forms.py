"""The book in forms to take along: a PDF of each language, and a zip that opens from the disk.

    ./run.sh book && python tools/forms.py    -> _build/forms/

A PDF is the whole book, printed by Chromium or Chrome from one long page: contents, bookmarks, page
numbers, links, what pictures say to those who don't see them; hints and solutions are unfolded.
The sheet is one of its pages, on A3 for the wall. Slides are a lesson's own words, code and figures
in the size of a screen, for a teacher to go through: a heading begins a slide, and exercises,
questions and what is folded stay out. The zip holds the pages that ./run.sh book has built.
"""

import argparse
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import chrome
from pypdf import PdfWriter
from pypdf.generic import NameObject, TextStringObject

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
NAME = "shakespeare-layer-by-layer"
OPTIONS = {"en": [], "zh": ["--toc", "book/zh/_toc.yml"]}
FONT = Path(find_spec("zhplot").origin).parent / "fonts/NotoSansSC-Regular.ttf"
FACE = f'@font-face {{ font-family: "Course Chinese"; src: url("/{FONT.name}"); }}'
FAMILIES = """
html:lang(zh) { --pst-font-family-base-system: "DejaVu Sans", "Course Chinese", sans-serif; }
html:lang(zh) em { font-family: "DejaVu Sans", "Course Chinese", sans-serif; }
html:lang(zh) :is(pre, code) { font-family: "DejaVu Sans Mono", "Course Chinese", monospace; }
"""
BARE = """
@media print {
  #jb-print-docs-body, .bd-header-article, .bd-footer, .prev-next-footer {
    display: none !important;
  }
  * { max-width: none !important; }
  .bd-article h1 { display: block !important; }
}
"""
SHEET = """
@page { size: A3 landscape; margin: 9mm; }
@media print {
  .bd-article h1 { column-span: all; margin: 0 !important; }
  .bd-article > section { columns: 4; column-gap: 8mm; }
  .bd-article > section > p { column-span: all; margin: 1mm 0 4mm; }
  .bd-article section section { break-inside: avoid; margin-bottom: 4mm; }
  .bd-article h2 { margin: 0 0 1mm !important; font-size: 13pt; }
  .bd-article :is(p, td, div.math) { font-size: 9.5pt !important; margin: 0.5mm 0 !important; }
  .bd-article td strong { white-space: nowrap; }
  .bd-article .picture { margin: 0; }
  .bd-article .picture svg { max-height: 92mm; }
}
"""
SLIDES = """
@page { size: 13.333in 7.5in; margin: 0.5in 0.9in; }
@media print {
  .bd-article details, section#exercises, section#questions, section#test-yourself {
    display: none !important;
  }
  html { font-size: 21px; }
  .bd-article :is(h2, h3) { break-before: page; margin-top: 0 !important; }
  .bd-article h2 + h3 { break-before: auto; }
  .bd-article pre { font-size: 16px !important; }
  .bd-article :is(img, .picture svg) { max-height: 5.4in !important; }
  .bd-article :is(p, blockquote, table, div.math) { break-inside: avoid; }
}
"""
FORMULAS = "window.MathJax?.startup?.promise"
NUMBER = '<div style="width: 100%; text-align: center; font: 8px sans-serif">{}</div>'
NUMBERED = {
    "display_header_footer": True,
    "header_template": NUMBER.format(""),
    "footer_template": NUMBER.format('<span class="pageNumber"></span>'),
}


def one_page(language):
    """Build the whole book as one page. -> the folder that it lies in, as index.html"""
    target = BUILD / "forms" / language
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT, "-W", "-n"]
    subprocess.run(
        [*command, *OPTIONS[language], "--builder", "singlehtml", "--path-output", target],
        env=os.environ | {"COURSE_LANGUAGE": language},
        check=True,
    )
    folder = target / "_build/singlehtml"
    # It is written beside the first page of the contents, with addresses as from the top.
    (page,) = folder.glob("book/**/intro.html")
    shutil.copy(page, folder / "index.html")
    return folder


@contextmanager
def chromium():
    program = chrome.program()
    if program is None:
        sys.exit("A PDF is printed by Chromium or Chrome: install one, and run again")
    with chrome.opened(program) as browser:
        yield browser


def printed(browser, folder, path, name="index.html", style="", **how):
    """Print a page of a folder, with a Chinese font that comes with the package zhplot."""

    def answer(route):
        asked = unquote(urlsplit(route.request.url).path).lstrip("/")
        file = FONT if asked == FONT.name else folder / asked
        if file.is_file():
            route.fulfill(path=file)
        else:
            route.abort()

    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.route("**/*", answer)  # from the disk itself no browser reads modules, nor do we ask a net
    page.goto(f"http://127.0.0.1/{name}")
    page.wait_for_function(f"!document.querySelector('.math') || {FORMULAS}")
    page.evaluate(f"{FORMULAS}?.then(() => 1)")
    page.add_style_tag(content=FACE + style)
    page.evaluate("Promise.all([...document.fonts].map((font) => font.load())).then(() => 1)")
    # Not before it is there: Chromium keeps for a word the boxes that it drew meanwhile.
    page.add_style_tag(content=FAMILIES)
    page.pdf(path=path, outline=True, tagged=True, print_background=True, **how)
    page.close()
    say_once(path)


def say_once(path):
    """Mend bookmarks: Chromium's have all words twice of a heading that goes to the next page."""
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of a count that it will mend
    pdf = PdfWriter(clone_from=path)
    for bookmark in flat(pdf.outline):
        half = bookmark.title[: len(bookmark.title) // 2]
        if bookmark.title == 2 * half:
            bookmark.node[NameObject("/Title")] = TextStringObject(half)
    pdf.write(path)


def flat(bookmarks):
    for one in bookmarks:
        if isinstance(one, list):
            yield from flat(one)
        else:
            yield one


def built():
    """The folder of the book in both languages."""
    if not (BUILD / "html/zh").is_dir():
        sys.exit("There is no book in both languages yet: ./run.sh book builds it")
    return BUILD / "html"


def of_book(browser, target):
    """Print the sheet and each lesson's slides, in both languages. -> path, one after the other"""
    lessons = [path.stem for path in sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))]
    for language, up, own in (("en", "", ""), ("zh", "zh/", "zh/")):
        path = target / f"sheet-{language}.pdf"
        page = f"{up}book/{own}sheet.html"
        printed(browser, built(), path, page, BARE + SHEET, prefer_css_page_size=True)
        yield path
        for lesson in lessons:
            path = target / f"slides-{lesson}-{language}.pdf"
            page = f"{up}notebooks/{own}{lesson}.html"
            printed(browser, built(), path, page, BARE + SLIDES, prefer_css_page_size=True)
            yield path


def make(form, target):
    """Make one of FORMS. -> path, one after the other"""
    if form == "zip":
        yield shutil.make_archive(target / NAME, "zip", BUILD, built().name)
        return
    folder = one_page(form) if form in OPTIONS else None
    with chromium() as browser:
        if folder is None:
            yield from of_book(browser, target)
        else:
            path = target / f"{NAME}-{form}.pdf"
            printed(browser, folder, path, format="A4", **NUMBERED)
            yield path


FORMS = ["zip", "slides", *OPTIONS]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("form", nargs="*", help=f"of {', '.join(FORMS)}; else all")
    chosen = parser.parse_args().form or FORMS
    if unknown := set(chosen) - set(FORMS):
        parser.error(f"{min(unknown)} is none of {', '.join(FORMS)}")
    target = BUILD / "forms"
    target.mkdir(parents=True, exist_ok=True)
    for form in chosen:
        for path in make(form, target):
            print(path)


if __name__ == "__main__":
    main()

"""The book in forms to take along: a PDF of each language, and a zip that opens from the disk.

    ./run.sh book && python tools/forms.py    -> _build/forms/

A PDF is the whole book, printed by Chromium or Chrome from one long page: contents, bookmarks, page
numbers, links, what pictures say to those who don't see them; hints and solutions are unfolded.
The zip holds the pages that ./run.sh book has built, in both languages.
"""

import argparse
import functools
import http.server
import logging
import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from playwright.sync_api import sync_playwright
from pypdf import PdfWriter
from pypdf.generic import NameObject, TextStringObject

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
NAME = "shakespeare-layer-by-layer"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = {"en": [], "zh": ["--toc", "book/zh/_toc.yml"]}
FACE = '@font-face { font-family: "Course Chinese"; src: url("_static/chinese.ttf"); }'
FAMILIES = """
html:lang(zh) { --pst-font-family-base-system: "DejaVu Sans", "Course Chinese", sans-serif; }
html:lang(zh) em { font-family: "DejaVu Sans", "Course Chinese", sans-serif; }
html:lang(zh) :is(pre, code) { font-family: "DejaVu Sans Mono", "Course Chinese", monospace; }
"""
FORMULAS = "window.MathJax?.startup?.promise"
FOOT = """<div style="width: 100%; text-align: center; font: 8px sans-serif">
<span class="pageNumber"></span></div>"""


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
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.exit("A PDF is printed by Chromium or Chrome: install one, and run again")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def printed(browser, folder, path):
    """Print index.html of a folder, with a Chinese font that comes with the package zhplot."""
    fonts = Path(find_spec("zhplot").origin).parent / "fonts"
    shutil.copy(fonts / "NotoSansSC-Regular.ttf", folder / "_static/chinese.ttf")
    with serving(folder) as address:
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(f"{address}index.html")
        page.wait_for_function(f"!document.querySelector('.math') || {FORMULAS}")
        page.evaluate(f"{FORMULAS}?.then(() => 1)")
        page.add_style_tag(content=FACE)
        page.evaluate("Promise.all([...document.fonts].map((font) => font.load())).then(() => 1)")
        # Not before it is there: Chromium keeps for a word the boxes that it drew meanwhile.
        page.add_style_tag(content=FAMILIES)
        page.pdf(
            path=path,
            format="A4",
            outline=True,
            tagged=True,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOT,
        )
        page.close()
    say_once(path)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@contextmanager
def serving(folder):
    """The address at which this machine serves a folder: a page of modules needs one."""
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


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


def packed():
    """Zip the built book. -> the path of the zip"""
    if not (BUILD / "html/zh").is_dir():
        sys.exit("There is no book in both languages yet: ./run.sh book builds it")
    return shutil.make_archive(BUILD / "forms" / NAME, "zip", BUILD, "html")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("form", nargs="*", choices=["zip", *OPTIONS], help="what to make; else all")
    chosen = parser.parse_args().form or ["zip", *OPTIONS]
    (BUILD / "forms").mkdir(parents=True, exist_ok=True)
    for form in chosen:
        if form == "zip":
            path = packed()
        else:
            path = BUILD / "forms" / f"{NAME}-{form}.pdf"
            folder = one_page(form)
            with chromium() as browser:
                printed(browser, folder, path)
        print(path)


if __name__ == "__main__":
    main()

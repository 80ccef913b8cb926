"""What Jupyter Book leaves out: pictures read aloud, formulas that ask no other host, and records.

What is recorded is drawn and tabled while the page is built. Cells that only set up are folded.
"""

import ast
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import course_bench
import course_depth
import course_pictures
import course_records
import course_sheet
import course_study
import pandas as pd
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from course_utils import figures
from course_utils.figures.drawing import UNSEEN
from course_utils.figures.words import with_minus
from course_utils.messages import _

PASSAGES = (
    course_bench.PASSAGES
    | course_study.PASSAGES
    | course_depth.PASSAGES
    | course_records.PASSAGES
    | course_sheet.PASSAGES
)
MATHJAX = (  # 3 MB of the package's 15
    "tex-chtml.js",
    "input/tex/extensions",
    "output/chtml/fonts/woff-v2",
)


def describe_pictures(app, doctree):
    """Show the drawings that lie in pictures; give any other of a lesson its text as alt text.

    A drawing says itself what it shows, so the words that a notebook puts before it are left out.
    """
    for output in [*doctree.findall(nodes.container)]:
        if output.get("nb_element") == "mime_bundle":
            forms = {form["mime_type"]: form for form in output.children}
            if "text/html" in forms and UNSEEN in forms["text/html"].astext():
                output.parent.remove(output)
            elif "image/png" in forms and "text/plain" in forms:
                for image in forms["image/png"].findall(nodes.image):
                    image["alt"] = forms["text/plain"].astext()

    page = app.env.docname.replace("/", "-")
    for i, image in enumerate([*doctree.findall(nodes.image)]):
        path = Path(app.env.relfn2path(image["uri"])[1])
        if found := course_pictures.redrawn(path, f"{page}-{i}"):
            image.replace_self(found)


def fold_plumbing(app, doctree):
    """Fold the code of cells that install or import and do nothing else; say what a fold hides."""
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") != "cell_code":
            continue
        what = plumbing(cell)
        if what:
            cell["hide_mode"] = "input"
        elif "solution" in cell["cell_metadata"].get("tags", ()):
            what = _("A solution")
        if what:
            cell["prompt_show"] = cell["prompt_hide"] = what


def link_terms(app, doctree, docname):
    """Let a lesson's bold words lead to their entries in the glossary."""
    if not docname.startswith("notebooks/"):
        return
    terms = {
        name.lower(): f"{app.builder.get_relative_uri(docname, page)}#{anchor}"
        for (kind, name), (page, anchor) in app.env.domains["std"].objects.items()
        if kind == "term"
    }
    for bold in doctree.findall(nodes.strong):
        words = bold.astext().lower()
        if address := terms.get(words) or terms.get(words.removesuffix("s")):
            link = nodes.reference("", "", *bold.children, internal=True, refuri=address)
            bold.children = []
            bold += link


def plumbing(cell):
    """What a cell does, where it bears the tag setup, or imports and that is all; else ""."""
    if "setup" in cell["cell_metadata"].get("tags", ()):
        return _("The set-up")
    (code,) = [*cell.findall(nodes.literal_block)][:1] or [None]
    try:
        statements = ast.parse(code.astext() if code else "").body
    except SyntaxError:  # IPython's own
        return ""
    imports = all(isinstance(one, ast.Import | ast.ImportFrom) for one in statements)
    return _("The imports") if statements and imports else ""


def copy_mathjax(app, error):
    """Put the parts of MathJax that the pages can ask for beside them."""
    if error:
        return
    package = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
    target = Path(app.outdir, "_static/mathjax")
    for part in MATHJAX:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (package / part).is_dir():
            copytree(package / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).write_bytes((package / part).read_bytes())
    licence = Path(__file__).with_name("mathjax_licence.txt")
    (target / "LICENSE").write_bytes(licence.read_bytes())


class Recorded(SphinxDirective):
    """`{recorded} train`, or another word of PASSAGES: what is recorded, as figures and tables."""

    required_arguments = 1

    def run(self):
        self.env.note_reread()  # by the next build there may be other files
        passage = nodes.container()
        try:
            for part in PASSAGES[self.arguments[0]]():
                self.show(part, passage)
        except ValueError as error:
            raise self.error(str(error)) from None
        return passage.children

    def show(self, part, passage):
        """Add a Figure, a DataFrame or a text in Markdown to the passage."""
        if isinstance(part, figures.Figure):
            passage += course_pictures.drawn(part, f"{self.arguments[0]}-{len(passage)}")
            return
        if isinstance(part, pd.DataFrame):
            part = course_bench.folded(part)
        lines = with_minus(part).splitlines()
        self.state.nested_parse(StringList(lines, ""), self.content_offset, passage)


def setup(app):
    app.add_directive("recorded", Recorded)
    app.connect("doctree-read", describe_pictures, priority=400)  # before Sphinx takes the files
    app.connect("doctree-read", fold_plumbing)
    app.connect("doctree-resolved", link_terms)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True}

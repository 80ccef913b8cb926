"""What Jupyter Book leaves out: pictures that can be read aloud, and formulas that ask no other host for a script."""

from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

from docutils import nodes

MATHJAX = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")  # 3 MB of the package's 15


def describe_pictures(app, doctree):
    """Give each picture of a lesson its alt text: what the figure says of itself in words, its text/plain form."""
    for output in doctree.findall(nodes.container):
        if output.get("nb_element") == "mime_bundle":
            forms = {form["mime_type"]: form for form in output.children}
            if "image/png" in forms and "text/plain" in forms:
                for image in forms["image/png"].findall(nodes.image):
                    image["alt"] = forms["text/plain"].astext()


def copy_mathjax(app, error):
    """Put the parts of MathJax that the pages can ask for beside them."""
    package = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
    target = Path(app.outdir, "_static/mathjax")
    for part in () if error else MATHJAX:
        (target / part).parent.mkdir(parents=True, exist_ok=True)
        if (package / part).is_dir():
            copytree(package / part, target / part, dirs_exist_ok=True)
        else:
            (target / part).write_bytes((package / part).read_bytes())


def setup(app):
    app.connect("doctree-read", describe_pictures)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True}

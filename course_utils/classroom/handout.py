"""The lessons as a class gets them: without solutions, a variant stored in each."""

import re
from pathlib import Path

import nbformat

from course_utils import checks, files
from course_utils.checks.stubs import is_blank
from course_utils.messages import _

VARIANT = """import os

# The numbers in your exercises depend on it: leave it as it is.
os.environ["COURSE_VARIANT"] = "{}\""""
DEPENDS_ON_IT = re.compile(r"\bchecks\.(check|sizes|variant)\(")
LARGEST = 50_000_000  # bytes of a notebook's file


def lessons():
    """The six notebooks of the checkout, in order."""
    names = [f"{i:02}_{lesson}.ipynb" for i, lesson in enumerate(checks.LESSONS, start=1)]
    paths = [(files.CHECKOUT or Path()) / "notebooks" / name for name in names]
    if not files.CHECKOUT or not all(path.is_file() for path in paths):
        raise ValueError(
            _("the lessons are not here: `course student` needs a checkout of the course")
        )
    return paths


def read(path):
    """A notebook in today's format; ValueError where there is none."""
    try:
        size = path.stat().st_size
        if size > LARGEST or not path.is_file():
            raise ValueError
        notebook = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
        if all(type(cell.source) is str for cell in notebook.cells):
            return notebook
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(_("it can't be read ({reason})", reason=reason)) from None
    except Exception:  # whatever nbformat meets on its way through something else
        pass
    raise ValueError(_("it is not a notebook"))


def hand_out(folder, variant=0):
    """Write the lessons without solutions, the variant stored in each. -> (files, warnings)"""
    targets = {folder / path.name: path for path in lessons()}
    for target in targets:
        if target.exists():
            words = _("{path} is there already and stays as it is: name a new folder", path=target)
            raise ValueError(words)
    warnings = []
    for target, path in targets.items():
        notebook = read(path)
        nbformat.validate(notebook)
        warnings += [f"{path.name}: {words}" for words in answers_in(notebook)]
        given = without_solutions(notebook, variant)
        files.write(target, (nbformat.writes(given) + "\n").encode())
    return list(targets), warnings


def answers_in(notebook):
    """What stands in an exercise's cell that was left empty for the reader, in words."""
    for cell in tagged(notebook, "exercise"):
        if not is_blank(cell.source):
            line = cell.source.splitlines()[0]
            yield _("an exercise is answered in it, or changed: {line}", line=line)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]


def without_solutions(notebook, variant):
    """No cell tagged `solution`; no output that depends on the variant, which a cell sets."""
    solutions = tagged(notebook, "solution")
    notebook.cells = [cell for cell in notebook.cells if cell not in solutions]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace(" Solutions are folded below.", "")
        elif cell.cell_type == "code" and DEPENDS_ON_IT.search(cell.source):
            cell.outputs = []
            cell.execution_count = None
    source = VARIANT.format(variant)
    setting = nbformat.v4.new_code_cell(source, id="variant", metadata={"tags": ["variant"]})
    notebook.cells.insert(1, setting)
    notebook.metadata["course"] = {"variant": variant}
    return notebook

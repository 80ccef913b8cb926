"""Wrong answers that the checks must reject, and unusual right ones that they must accept.

Each lesson's module holds EXERCISES: number -> Case.
"""

import ast
import contextlib
import functools
import importlib
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from course_utils import checks

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Case:
    """mutants: [(attempt, words of the answer that it must get)]; unusual: right answers."""

    mutants: list
    unusual: list = field(default_factory=list)


def all_cases():
    """The cases of every lesson that has some: number -> Case."""
    modules = sorted(
        Path(__file__).parent.glob("[a-z]*.py"), key=lambda path: checks.LESSONS.index(path.stem)
    )
    return {
        number: case
        for path in modules
        for number, case in importlib.import_module(f"{__name__}.{path.stem}").EXERCISES.items()
    }


@functools.cache
def read(path):
    return nbformat.read(path, as_version=4)


def notebook(number):
    """The lesson's notebook that an exercise stands in."""
    return next((ROOT / "notebooks").glob(f"{int(number.partition('.')[0]):02}_*.ipynb"))


def cells(number):
    """The exercise's cells, found by their call: {"exercise": cell, "solution": cell}."""
    found = {}
    for cell in read(notebook(number)).cells:
        for tag in {"exercise", "solution"} & set(cell.metadata.get("tags", [])):
            if re.search(rf'checks\.check\("{re.escape(number)}"', cell.source):
                assert tag not in found, f"two cells tagged {tag} check {number}"
                found[tag] = cell
    return found


def said(number, tag):
    """What an exercise's cell prints after its lesson's imports and definitions, and no other."""
    namespace = definitions(notebook(number))
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        exec(compile(cells(number)[tag].source, f"exercise {number}, {tag}", "exec"), namespace)
    return heard.getvalue()


def definitions(path):
    """The names that a lesson's cells of nothing but imports, functions and classes make."""
    namespace = {"__name__": path.stem}
    for cell in read(path).cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or {"setup", "exercise", "solution"} & set(tags):
            continue
        body = ast.parse(cell.source).body
        if all(
            isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            for node in body
        ):
            with contextlib.suppress(NameError):  # a default that another cell's numbers make
                exec(compile(cell.source, path.name, "exec"), namespace)
    return namespace


def late(make):
    """Mark a function that makes an attempt: for answers that depend on the variant."""
    make.late = True
    return make


def made(attempt):
    """The attempt itself, also where it is made late."""
    return attempt() if getattr(attempt, "late", False) else attempt

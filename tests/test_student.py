"""Lessons handed out without their answers, and the table that what comes back is graded in."""

import csv
import io
import json
import os

import nbformat
import pandas as pd
import pytest

from course_utils import checks, files
from course_utils.checks.stubs import is_blank
from course_utils.classroom import grading, handout
from course_utils.classroom.gradebook import Gradebook, names
from helpers import course, here
from tests.grading_cases import write

# --- out ---


def test_lessons_are_handed_out_without_solutions(tmp_path):
    handed_out, warnings = handout.hand_out(tmp_path, 3)
    assert [file.name for file in handed_out] == [path.name for path in handout.lessons()]
    assert warnings == [], "all stubs are as published"
    for file, source in zip(handed_out, handout.lessons(), strict=True):
        given = nbformat.read(file, as_version=4)
        whole = nbformat.read(source, as_version=4)
        nbformat.validate(given)
        assert handout.tagged(given, "solution") == []
        solutions = handout.tagged(whole, "solution")
        assert len(given.cells) == len(whole.cells) - len(solutions) + 1
        assert not any(" right: " in json.dumps(cell.get("outputs", [])) for cell in given.cells)
        assert 'os.environ["COURSE_VARIANT"] = "3"' in given.cells[1].source
        text = file.read_text(encoding="utf-8")
        assert "Solutions are folded" not in text
        assert not any(solution.source in text for solution in solutions)


def test_what_is_there_stays(tmp_path):
    mine = write(tmp_path / "06_sampling.ipynb", "a week's work")
    before = mine.read_bytes()
    with pytest.raises(ValueError, match=r"06_sampling\.ipynb is there already .* new folder"):
        handout.hand_out(tmp_path, 2)
    assert mine.read_bytes() == before
    assert os.listdir(tmp_path) == [mine.name], "refused before the first file is written"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of the lessons alone, to be changed."""
    (tmp_path / "notebooks").mkdir()
    for path in handout.lessons():
        (tmp_path / "notebooks" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(files, "CHECKOUT", tmp_path)
    return tmp_path / "notebooks"


def test_a_copy_beside_the_lessons_is_not_handed_out(checkout, tmp_path):
    (checkout / "01_data-Copy1.ipynb").write_bytes((checkout / "01_data.ipynb").read_bytes())
    handed_out, _ = handout.hand_out(tmp_path / "class")
    assert len(handed_out) == 6


def test_an_answer_in_a_stub_is_told(checkout, tmp_path):
    path = checkout / "03_model.ipynb"
    lesson = nbformat.read(path, as_version=4)
    cell = next(c for c in handout.tagged(lesson, "exercise") if "def rms_norm" in c.source)
    cell.source = cell.source.replace("    ...", "    return x")
    nbformat.write(lesson, path)
    _, (warning,) = handout.hand_out(tmp_path / "class")
    told = "03_model.ipynb: an exercise is answered in it, or changed: def rms_norm(x, gain, eps):"
    assert warning == told


def test_blank_cells():
    for blank in (
        "x = ...\nchecks.check('1.1', x)",
        "a, b = None, None",
        "def f():\n  'what'\n  ...",
    ):
        assert is_blank(blank)
    for filled in ("x = 4", "def f():\n    return 4", "a, b = None, 4", "print('hello')", "f("):
        assert not is_blank(filled)


@pytest.mark.slow
def test_the_command_hands_out(tmp_path):
    done = course("student", tmp_path / "class", "--variant", 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 lessons without solutions, variant 4" in done.stdout
    assert len(list((tmp_path / "class").glob("*.ipynb"))) == 6
    again = here("student", tmp_path / "class")
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "01_data.ipynb is there already and stays as it is: name a new folder" in again.stderr


# --- what is graded ---


def test_notebooks_are_found_by_file_folder_and_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("anna/01.ipynb", "anna/.ipynb_checkpoints/01.ipynb", "ben/01.ipynb", "x.txt"):
        write(tmp_path / name)

    def found(*named):
        return [str(path) for path in grading.notebooks_in(named)]

    assert found(".") == found("anna", "ben") == found("*/01.ipynb") == found("**/*.ipynb")
    assert found("ben/01.ipynb", "b*", "x.txt") == ["ben/01.ipynb", "x.txt"], "each once"
    assert found("missing.ipynb") == ["missing.ipynb"], "its row says that it can't be read"
    write(tmp_path / "[1].ipynb")
    assert found("[1].ipynb") == ["[1].ipynb"], "a name that looks like a pattern"
    for nothing in ("*.csv", "anna/.ipynb_checkpoints"):
        with pytest.raises(ValueError, match="no notebook was found in"):
            found(nothing)


@pytest.mark.slow
def test_a_call_that_finds_nothing_fails(tmp_path):
    done = here("student", tmp_path / "grades", "--grade", tmp_path / "*.ipynb")
    assert done.returncode == 1
    assert done.stderr.startswith("course: no notebook was found in")
    assert not (tmp_path / "grades").exists()


def test_what_is_no_notebook_gets_a_row(tmp_path):
    strange = {
        "deep": b"[" * 5000,
        "latin": b"\xff\xfe",
        "list": b"[1]",
        "empty": b"",
        "other": b'{"cells": [{"cell_type": "code", "source": 5}], "metadata": {}, "nbformat": 4}',
        "metadata": b'{"cells": [], "metadata": [], "nbformat": 4, "nbformat_minor": 5}',
    }
    for name, content in strange.items():
        path = tmp_path / name
        path.write_bytes(content)
        row = grading.row_of(path, 0, None, None, False, None)
        assert row["right"] == 0
        assert row["problem"], name
    row = grading.row_of(tmp_path / "missing", 0, None, None, False, None)
    words = "it can't be read (No such file or directory)"
    assert row == {"variant": "", "problem": words, "right": 0}
    assert "not a notebook" in grading.row_of(tmp_path, 0, None, None, False, None)["problem"]


def test_a_mark_at_the_beginning_and_an_older_format_are_read(tmp_path):
    old = (
        '{"worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1", "language": "python",'
        ' "outputs": []}]}], "metadata": {}, "nbformat": 3, "nbformat_minor": 0}'
    )
    path = tmp_path / "old.ipynb"
    path.write_text("\ufeff" + old, encoding="utf-8")
    assert [cell.source for cell in handout.read(path).cells] == ["x = 1"]


def cell_of(variant):
    return handout.VARIANT.format(variant)


@pytest.mark.parametrize(
    ("handed_out", "stored", "cells", "variant", "doubt"),
    [
        (4, 3, [cell_of(2)], 4, ""),
        (None, 3, [cell_of(3)], 3, ""),
        (None, 3, [], 3, ""),
        (None, None, [cell_of(3)], 3, ""),
        (None, 3, [cell_of(2)], 3, "its cell says variant 2: graded as 3, which was handed out"),
        (None, None, [], 0, "no variant is stored in it: graded as variant 0"),
        (None, 10**30, [], 0, "no variant is stored in it: graded as variant 0"),
        (None, "3", [cell_of(3)], 3, ""),
    ],
)
def test_the_variant_is_in_the_metadata_or_its_cell(handed_out, stored, cells, variant, doubt):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    if stored is not None:
        made.metadata["course"] = {"variant": stored}
    assert grading.variant_of(made, handed_out) == (variant, doubt)


def test_the_best_answer_counts_and_a_missing_one_is_explained():
    judged = [["1.1", "not yet"], ["1.1", "right"], ["1.1", "error: x"], ["1.2", "error: y"]]
    cells = ['checks.check("1.3", f)', 'if 0: checks.check("1.4", f)', '"1.5"', 'check("1.2", 1)']
    errors = {0: "NameError: f", 3: "later"}
    assert grading.best(judged, cells, errors) == {
        "1.1": "right",
        "1.2": "error: y",
        "1.3": "error: NameError: f",
        "1.4": "not called",
    }


# --- the table ---


def table(folder):
    with open(folder / "grades.csv", newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_rows_are_told_apart_by_as_much_of_the_path_as_it_takes():
    assert names(["a/1.ipynb"]) == {"a/1.ipynb": "1.ipynb"}
    assert names(["x/anna/1.ipynb", "x/ben/1.ipynb", "x/2.ipynb"]) == {
        "x/anna/1.ipynb": "anna/1.ipynb",
        "x/ben/1.ipynb": "ben/1.ipynb",
        "x/2.ipynb": "2.ipynb",
    }
    assert names(["1.ipynb", "a/1.ipynb"]) == {"1.ipynb": "1.ipynb", "a/1.ipynb": "a/1.ipynb"}
    assert names(["a/1", "a//1"]) == {"a/1": "a/1", "a//1": "a/1"}, "typed by hand, and no loop"


def test_other_rows_and_a_teachers_columns_stay(tmp_path):
    numbers = checks.numbers()
    anna, ben = tmp_path / "anna" / "1.ipynb", tmp_path / "ben" / "1.ipynb"
    first = Gradebook(tmp_path / "out", numbers, [anna])
    assert first.add(anna, {"1.1": "right", "variant": 2, "right": 1, "problem": ""}) == "1.ipynb"
    path = tmp_path / "out" / "grades.csv"
    text = path.read_text(encoding="utf-8-sig")
    header, row = text.splitlines()
    assert header == "notebook,variant,right,problem,1.1,1.2,1.3,1.4,1.5,1.6,file"
    path.write_text(f"{header},remark\n{row},=well done\n", encoding="utf-8")

    second = Gradebook(tmp_path / "out", numbers, [ben])
    assert second.add(ben, {"2.1": "not yet", "right": 0}) == "ben/1.ipynb"
    rows = table(tmp_path / "out")
    assert [row["notebook"] for row in rows] == ["anna/1.ipynb", "ben/1.ipynb"]
    assert (rows[0]["1.1"], rows[0]["remark"]) == ("right", "'=well done")
    assert rows[1]["2.1"] == "not yet"

    third = Gradebook(tmp_path / "out", numbers, [anna])
    third.add(anna, {"1.2": "right", "right": 1})
    one, _ = table(tmp_path / "out")
    assert (one["1.1"], one["1.2"], one["remark"]) == ("", "right", "'=well done")


def test_a_name_like_a_formula_keeps_its_row(tmp_path):
    for _ in range(2):
        book = Gradebook(tmp_path, checks.numbers(), [tmp_path / "=1.ipynb"])
        assert book.add(tmp_path / "=1.ipynb", {"1.1": "right"}) == "=1.ipynb"
    (row,) = table(tmp_path)
    assert (row["notebook"], row["file"]) == ("'=1.ipynb", "'=1.ipynb")


def test_a_table_of_something_else_is_refused(tmp_path):
    for content in (b"a;b\n1;2\n", b"\xff\xfe\x00", b"notebook,1.1\nx.ipynb,right\n", b'"a\n'):
        (tmp_path / "grades.csv").write_bytes(content)
        with pytest.raises(ValueError, match="stays as it is: move it away"):
            Gradebook(tmp_path, [], [])
        assert (tmp_path / "grades.csv").read_bytes() == content


FORMULAS = ["=1+2", "+1+2", "-1+2", "@SUM(1)", "＝1", "＠x", "=cmd|' /C calc'!A0"]
FORMULAS += ["\t=1", "\r=1", "\n=1"]


def test_no_cell_of_a_table_is_a_formula():
    rows = [
        {"=name": text, "number": -0.5, "text": "-0.5", "name": "m\udcfcller"} for text in FORMULAS
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for made in (files.csv_bytes(columns), files.csv_bytes(pd.DataFrame(rows))):
        assert made.startswith("\ufeff".encode()), "Excel takes it for UTF-8"
        read = list(csv.DictReader(io.StringIO(made.decode("utf-8-sig"), newline="")))
        assert [row["'=name"] for row in read] == [f"'{text}" for text in FORMULAS]
        assert {row["number"] for row in read} == {row["text"] for row in read} == {"-0.5"}
        assert read[0]["name"] == "m\\udcfcller"

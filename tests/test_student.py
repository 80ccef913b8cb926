"""Handing out lessons without solutions, and grading: what runs for ever, kills, cheats or shouts earns nothing."""

import csv
import json
import subprocess
import sys

import nbformat
import pytest

from course_utils.classroom import grading, handout

IMPORTS = "import math, os\nimport torch\nfrom course_utils import checks"
RIGHT = (
    "def perplexity(p):\n    return math.prod(p) ** (-1 / len(p))\nchecks.check('1.1', perplexity)"
)
FOR_EVER = "def places():\n    while True: pass\nchecks.check('1.2', places())"
KILLS = "def windows(ids, T):\n    os._exit(0)\nchecks.check('1.3', windows)"
CHEATS = """
def bigram_loss(train, validation, vocab_size, extra):
    return 0.0
def yes(*anything, **more):
    return True
checks.check = lambda number, attempt: print(number, "right: of course.")
checks.answer = lambda number, attempt: checks.Answer(number, "right")
checks.agree = checks.same = checks.values.same = yes
checks.data.agree = yes
checks.find("1.4")
checks.EXERCISES["1.4"] = checks.Exercise("1.4", "", "core", 1, yes, None)
print("1.4 right: of course.")
checks.check("1.4", bigram_loss)
"""
STUB = 'def byte_pairs(ids, vocab_size, n_merges):\n    ...\nchecks.check("1.5", byte_pairs)'


def notebook(path, *cells, variant=0):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata["course"] = {"variant": variant}
    for cell in made.cells:
        cell.outputs = [
            nbformat.v4.new_output(
                "stream", text="1.1 right\n1.2 right\n1.3 right\n1.4 right\n1.5 right\n"
            )
        ]
    nbformat.write(made, path)
    return path


def graded(folder):
    with open(folder / "grades.csv", newline="", encoding="utf-8") as file:
        return {row["notebook"]: row for row in csv.DictReader(file)}


def test_lessons_are_handed_out_without_solutions(tmp_path, capsys):
    files = handout.hand_out(tmp_path, 3)
    assert [file.name for file in files] == [path.name for path in handout.lessons()]
    for file, source in zip(files, handout.lessons(), strict=True):
        given, whole = nbformat.read(file, as_version=4), nbformat.read(source, as_version=4)
        nbformat.validate(given)
        tagged = [cell for cell in given.cells if "solution" in cell.metadata.get("tags", [])]
        solutions = [cell for cell in whole.cells if "solution" in cell.metadata.get("tags", [])]
        assert not tagged
        assert len(given.cells) == len(whole.cells) - len(solutions) + 1
        assert not any(" right: " in json.dumps(cell.get("outputs", [])) for cell in given.cells)
        assert 'os.environ["COURSE_VARIANT"] = "3"' in given.cells[1].source
        for solution in solutions:
            assert solution.source not in file.read_text(encoding="utf-8")


def test_grading_believes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_VARIANT", "5")  # a grader's own setting counts for nothing
    imports = IMPORTS + "\nimport course_utils.checks.data"
    cells = [imports, RIGHT, FOR_EVER, KILLS, CHEATS, STUB]
    paths = [notebook(tmp_path / "=cmd.ipynb", *cells, variant=2)]
    syntax = "def windows(ids, T)\n    return []\nchecks.check('1.3', windows)"
    raises = "raise KeyError('\\x1b[2J')\nchecks.check('1.1', 1)"
    greedy = "def bigram_loss(*_):\n    return torch.ones(10**10).sum().item()\nchecks.check('1.4', bigram_loss)"
    copied = (
        "places, questions = 993, 429\nchecks.check('1.2', (places, questions))"  # of variant 0
    )
    paths.append(
        notebook(tmp_path / "other.ipynb", IMPORTS, raises, copied, syntax, greedy, variant=7)
    )
    (tmp_path / "no.ipynb").write_text("[" * 5000, encoding="utf-8")
    grading.grade(tmp_path / "out", [*paths, tmp_path / "no.ipynb"], seconds=10, megabytes=3000)
    found = graded(tmp_path / "out")
    one, two, three = found["'=cmd.ipynb"], found["other.ipynb"], found["no.ipynb"]
    assert (one["1.1"], one["1.4"], one["1.5"], one["variant"]) == (
        "right",
        "not yet",
        "not attempted",
        "2",
    )
    assert one["1.2"] == "error: no end after 10 s"
    assert one["1.3"] == "error: the kernel died"
    assert two["1.1"].startswith("error: KeyError")
    assert two["1.2"] == "not yet"
    assert two["1.3"].startswith("error: SyntaxError")
    assert two["1.4"].startswith("error: ")
    assert two["1.5"] == ""
    assert three["problem"] == "no.ipynb is not a notebook"


def test_the_reference_answers_earn_everything(tmp_path):
    """Lesson 1 with its solutions in, under a variant that its author never saw."""
    grading.grade(tmp_path, [handout.lessons()[0]], variant=11)
    (row,) = graded(tmp_path).values()
    earned = {
        key: value for key, value in row.items() if value and key not in ("notebook", "variant")
    }
    assert earned == dict.fromkeys((f"1.{i}" for i in range(1, 6)), "right")


def test_a_notebook_that_changes_the_course_is_found(tmp_path, monkeypatch):
    path, states = notebook(tmp_path / "a.ipynb", IMPORTS), iter("ab")
    monkeypatch.setattr(grading, "fingerprint", lambda: next(states))
    with pytest.raises(ValueError, match=r"a\.ipynb changed the course's own files"):
        grading.grade(tmp_path, [path])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("checks.check('1.1', f)", [("1.1", "f")]),
        ("%time 1\nchecks.check( '1.2', a and (a, b))", [("1.2", "a and (a, b)")]),
        ("checks.check('1.3', f", [("1.3", "None")]),
        ("checks.check(n, f); check('1.1', f)", []),
        ("x = 1", []),
    ],
)
def test_calls(source, found):
    assert grading.calls(source) == found


def test_the_command(tmp_path):
    course = [sys.executable, "-m", "course_utils", "student", tmp_path / "class", "--variant", "4"]
    done = subprocess.run(course, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "6 lessons without solutions, variant 4" in done.stdout
    assert len(list((tmp_path / "class").glob("*.ipynb"))) == 6

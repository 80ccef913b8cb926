"""Lessons that are played with: each cell twice in a row, then sections out of order; nothing fails
or changes."""

import random
import re
from itertools import chain

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from helpers import FULL, ROOT

pytestmark = pytest.mark.slow
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SHUFFLES = 3 if FULL else 1
PLAYED = NOTEBOOKS if FULL else NOTEBOOKS[1:2]  # the others take longer


def parts(cells):
    """-> (the code cells before the first section, a list of code cells for each section)"""
    found = [[]]
    for cell in cells:
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE):
            found.append([])
        elif cell.cell_type == "code":
            found[-1].append(cell)
    return found[0], [section for section in found[1:] if section]


def said(outputs):
    """What a cell printed and showed in words, in one piece."""
    texts = [
        output.text
        if output.output_type == "stream"
        else output.get("data", {}).get("text/plain", "")
        for output in outputs
        if output.get("name") != "stderr"
    ]
    return "".join(texts)


class Player:
    """A kernel in which the cells of one lesson are run in any order; counts them,
    and keeps what went wrong. A cell says what is stored, whatever ran before it."""

    def __init__(self, notebook):
        self.client, self.promised = NotebookClient(notebook, timeout=120), {}
        self.count, self.wrong = 0, []
        for cell in notebook.cells:
            varies = "nbval-ignore-output" in cell.metadata.get("tags", [])
            if cell.cell_type == "code" and not varies:
                self.promised[cell.id] = said(cell.outputs)

    def run(self, cell, when):
        self.count += 1
        try:
            ran = self.client.execute_cell(cell, self.client.nb.cells.index(cell))
        except CellExecutionError as error:
            self.wrong.append(
                f"{when}: {cell.source.splitlines()[0]!r} … {error.ename}: {error.evalue}"
            )
            return
        promised = self.promised.get(cell.id)
        if promised is not None and said(ran.outputs) != promised:
            self.wrong.append(
                f"{when}: {cell.source.splitlines()[0]!r} … says {said(ran.outputs)!r}"
            )


def play(notebook, seed):
    """-> the Player, when all is played"""
    player = Player(notebook)
    begin, sections = parts(notebook.cells)
    with player.client.setup_kernel():
        for cell in [*begin, *chain(*sections)]:
            for when in ("the first time", "again"):
                player.run(cell, when)
        for shuffle in range(SHUFFLES):
            order = random.Random(f"{seed} {shuffle}").sample(sections, len(sections))
            for cell in [*begin, *chain(*order)]:
                player.run(cell, f"in order {shuffle}")
    return player


@pytest.mark.promise("played")
@pytest.mark.parametrize("path", PLAYED, ids=lambda path: path.stem)
def test_a_lesson_survives_being_played_with(path, record_property):
    player = play(nbformat.read(path, as_version=4), path.stem)
    record_property("trials", player.count)
    assert not player.wrong, "\n".join(player.wrong)


SPOILT = """
## One
----
x = 1
----
total = 0
----
## Two
----
x = x + 1
print(x)  # promised
----
## Three
----
total = total + 1
assert total == 1, "run once"
"""


@pytest.mark.promise("broken")
def test_a_lesson_that_keeps_a_state_is_noticed():
    """A cell that counts on, and one that needs its own section to have run just before."""
    notebook = nbformat.v4.new_notebook()
    for source in map(str.strip, SPOILT.split("----")):
        new = (
            nbformat.v4.new_markdown_cell if source.startswith("##") else nbformat.v4.new_code_cell
        )
        notebook.cells.append(new(source))
        if "promised" in source:
            notebook.cells[-1].outputs = [
                nbformat.v4.new_output("stream", name="stdout", text="2\n")
            ]
    wrong = play(notebook, "spoilt").wrong
    assert any("again: 'x = x + 1' … says '3\\n'" in word for word in wrong)
    assert any("again: 'total = total + 1' … AssertionError: run once" in word for word in wrong)

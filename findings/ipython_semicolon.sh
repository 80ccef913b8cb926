#!/usr/bin/env bash
# A semicolon in one cell silences another cell.
#
# Software: IPython 9.18.1. Input: cells as any client may send them.
# `6 * 7;` shows nothing, by IPython's rule. Whether a cell ends so is read from the history, though, and not from the
# cell: a cell that is run with store_history=False (as nbval and other tools do) is judged by the last cell that was
# stored. Its own semicolon hides nothing, and a semicolon in that other cell swallows its output.
# Seen: upstream's issue 14162 (2023, open) and pull request 13693 (2022, closed).
#
#   stored `x = 1`,  then `6 * 7;` not stored:  shows 42, should show nothing
#   stored `x = 1;`, then `6 * 7`  not stored:  shows nothing, should show 42
#
# What follows: a notebook that hides a value by a semicolon fails `pytest --nbval`; give the value a name instead.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ipython==9.18.1

IPYTHONDIR="$folder/ipython" "$folder/venv/bin/python" - <<'PYTHON'
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

shell = InteractiveShell.instance()


def shown(stored, cell):
    shell.run_cell(stored, store_history=True)
    with capture_output() as output:
        shell.run_cell(cell, store_history=False)
    return "42" in output.stdout


hidden, swallowed = shown("x = 1", "6 * 7;"), not shown("x = 1;", "6 * 7")
print(f"a cell's own semicolon hides nothing: {hidden}; another cell's semicolon swallows its output: {swallowed}")
raise SystemExit(not (hidden and swallowed))
PYTHON

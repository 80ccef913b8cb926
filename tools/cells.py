"""The shape of each lesson: how many cells, how long, how much prose. To look at, not a gate."""

import argparse
import ast
import re
from pathlib import Path
from statistics import median, quantiles

import jupytext

WORDS, LINES = 230, 10  # that an undistracted reader reads in a minute
FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
HEAD = (
    "lesson",
    "cells",
    "code lines: median",
    "90 %",
    "longest prose (words)",
    "prose : code",
    "minutes to read",
    "far from their use",
)


def shape(script):
    """One row of the table. Solutions are folded away and don't count."""
    cells = [
        cell
        for cell in jupytext.read(script).cells
        if "solution" not in cell.metadata.get("tags", [])
    ]
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    prose = [len(cell.source.split()) for cell in cells if cell.cell_type == "markdown"]
    lines = [len(source.splitlines()) for source in code]
    far = ", ".join(far_from_use(code)) or "none"
    ratio = f"{len(prose) / len(code):.2f}"
    return (
        script.stem,
        len(cells),
        f"{median(lines):g}",
        f"{quantiles(lines, n=10)[-1]:.0f}",
        max(prose),
        ratio,
        minutes_to_read(cells),
        far,
    )


def minutes_to_read(cells):
    """Up to the exercises, and what is folded left out, to the nearest five minutes."""
    words = lines = 0
    for cell in cells:
        if cell.cell_type == "code":
            if "setup" not in cell.metadata.get("tags", []):
                lines += sum(bool(line.strip()) for line in cell.source.splitlines())
            continue
        before, exercises, _ = cell.source.partition("## Exercises")
        words += len(re.sub(r"<details>.*?</details>", "", before, flags=re.DOTALL).split())
        if exercises:
            break
    return 5 * round((words / WORDS + lines / LINES) / 5)


def far_from_use(code):
    """Functions and classes that neither their own cell nor the next two mention again."""
    for i, source in enumerate(code):
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                near = "\n".join(code[i : i + 3])
                if len(re.findall(rf"\b{node.name}\b", near)) < 2:
                    yield node.name


def main():
    scripts = {script.stem: script for script in sorted(FOLDER.glob("[0-9][0-9]_*.py"))}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(scripts)} (default: all)"
    )
    names = parser.parse_args().names or list(scripts)
    if unknown := set(names) - set(scripts):
        parser.error(f"no lesson is called {', '.join(sorted(unknown))}")
    scripts = [scripts[name] for name in names]
    for row in (HEAD, ["---"] * len(HEAD), *map(shape, scripts)):
        print(f"| {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()

"""Run the lessons and store their outputs: notebooks/NN_<topic>.py -> .ipynb, byte-stable.

Those in notebooks/zh/ run in Chinese, the others in English, all in the laptop profile, unless
COURSE_PROFILE says otherwise. Names the cells that took long: what a reader waits for, the text
before the cell says.
"""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path

import jupytext
import nbformat

from course_utils.figures.drawing import UNSEEN, words

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
LONG = 10  # seconds


def prepare(script):
    """A notebook from a percent script, with cell ids that depend on nothing but the order."""
    notebook = jupytext.read(script)
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"{script.stem[:2]}-{i:03d}"
    return notebook


def run(script):
    """Execute top to bottom in the laptop profile, in the notebook's own folder and language."""
    from nbclient import NotebookClient

    notebook = prepare(script)
    language = "zh" if script.parent.name == "zh" else "en"
    here = {"metadata": {"path": str(script.parent)}}
    client = NotebookClient(notebook, timeout=1800, resources=here)
    client.execute(env={"COURSE_PROFILE": "laptop", **os.environ, "COURSE_LANGUAGE": language})
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)
            if (s := seconds(cell.metadata.pop("execution"))) > LONG:
                print(f"{s:4.0f} s  {cell.id}: {cell.source.strip().splitlines()[0]}")
    return notebook


def seconds(moments):
    """From a cell's beginning to its end, by the moments that nbclient notes."""
    ends = (moments["iopub.execute_input"], moments["shell.execute_reply"])
    began, ended = map(datetime.fromisoformat, ends)
    return (ended - began).total_seconds()


def tidy(outputs):
    """Without progress bars and dead widgets; printed text in one piece, however it was cut."""
    kept = []
    for output in outputs:
        if output.get("name") == "stderr":
            continue
        if output.output_type == "stream" and kept and kept[-1].get("name") == output.name:
            kept[-1].text += output.text
            continue
        if output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None):
            output.data.pop("text/plain", None)
        kept.append(output)
    return kept


def sync(script):
    """Take over the stored outputs cell by cell where the source is unchanged.

    A picture that has lost its words, or was stored before it had any, gets them.
    """
    notebook, target = prepare(script), script.with_suffix(".ipynb")
    stored = {}
    if target.is_file():
        before = nbformat.read(target, as_version=4)
        notebook.metadata["language_info"] = before.metadata["language_info"]
        for cell in before.cells:
            stored.setdefault((cell.cell_type, cell.source), cell)
    for cell in notebook.cells:
        if cell.cell_type == "code" and (old := stored.get(("code", cell.source))):
            cell.outputs, cell.execution_count = heard(old.outputs), old.execution_count
    return notebook


def heard(outputs):
    """Each picture's own words before it and no others, as a Figure shows itself."""
    kept = []
    for output in outputs:
        data = output.get("data", {})
        if UNSEEN in data.get("text/html", ""):
            continue
        if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
            kept.append(nbformat.v4.new_output("display_data", {"text/html": words(alt)}))
            output = nbformat.v4.new_output("display_data", data, metadata=output.metadata)
        kept.append(output)
    return kept


def problems(script):
    """What is wrong with a pair, as short sentences."""
    target = script.with_suffix(".ipynb")
    name = target.relative_to(FOLDER)
    if not target.is_file():
        return [f"{name} is missing"]
    notebook = nbformat.read(target, as_version=4)
    found = []
    if jupytext.writes(notebook, fmt="py:percent") != script.read_text(encoding="utf-8"):
        found.append(f"{name} and {script.name} differ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not any(cell.outputs for cell in code) or any(cell.execution_count is None for cell in code):
        found.append(f"{name} has cells that were not run")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        found.append(f"{name} holds an error")
    if any(heard(cell.outputs) != cell.outputs for cell in code):
        found.append(f"{name} has a picture that nobody hears")
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a part of a path, such as 01_data (in both languages) or zh/01 (default: all)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--sync",
        action="store_true",
        help="run nothing: keep the outputs of unchanged cells, each picture with its words",
    )
    how.add_argument(
        "--check",
        action="store_true",
        help="write nothing: fail if a pair is out of step, or outputs are missing or an error",
    )
    args = parser.parse_args()

    scripts = [s for at in (FOLDER, FOLDER / "zh") for s in sorted(at.glob("[0-9][0-9]_*.py"))]
    if args.names:
        paths = {script: script.relative_to(ROOT).as_posix() for script in scripts}
        scripts = [s for s, path in paths.items() if any(name in path for name in args.names)]
    if not scripts:
        sys.exit(f"no lesson of {FOLDER.name}/ is called {' or '.join(args.names) or 'NN_*.py'}")
    if args.check:
        if found := [problem for script in scripts for problem in problems(script)]:
            sys.exit(f"{'; '.join(found)}: run python tools/notebooks.py")
        return
    for script in scripts:
        notebook = sync(script) if args.sync else run(script)
        nbformat.write(notebook, script.with_suffix(".ipynb"))
        script.write_text(jupytext.writes(notebook, fmt="py:percent"), encoding="utf-8")
        print(f"wrote {script.relative_to(FOLDER).with_suffix('.ipynb')}")


if __name__ == "__main__":
    main()

"""The lessons as a class gets them: without solutions, a variant stored in each."""

import json
import re
from pathlib import Path

from course_utils import files

VARIANT = 'import os\n\nos.environ["COURSE_VARIANT"] = "{}"  # the numbers in your exercises depend on it: leave it as it is'


def lessons():
    """The six notebooks of the checkout, in order."""
    found = sorted((files.CHECKOUT or Path()).glob("notebooks/[0-9][0-9]_*.ipynb"))
    if not found or not files.CHECKOUT:
        raise ValueError(
            "the lessons are not here: `course student` needs a checkout of the course"
        )
    return found


def read(path):
    """A notebook's JSON, checked as far as it is used."""
    try:
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            cell["cell_type"], cell["metadata"].get("tags", [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{Path(path).name} is not a notebook") from None
    return notebook


def hand_out(folder, variant=0):
    """Write the lessons without solutions, the variant stored in each. -> the files"""
    folder.mkdir(parents=True, exist_ok=True)
    return [write(folder / path.name, without_solutions(read(path), variant)) for path in lessons()]


def write(path, notebook):
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def without_solutions(notebook, variant):
    """No cell tagged `solution`, no outputs that depend on the variant, which a cell near the top sets."""
    cells = [
        cell for cell in notebook["cells"] if "solution" not in cell["metadata"].get("tags", [])
    ]
    for cell in cells:
        if cell["cell_type"] == "code" and re.search(
            r"\bchecks\.(check|sizes|variant)\(", cell["source"]
        ):
            cell["outputs"], cell["execution_count"] = [], None
    settings = {
        "cell_type": "code",
        "id": "variant",
        "metadata": {"tags": ["variant"]},
        "outputs": [],
    }
    cells.insert(1, settings | {"execution_count": None, "source": VARIANT.format(variant)})
    metadata = notebook["metadata"] | {"course": {"variant": variant}}
    return notebook | {"cells": cells, "metadata": metadata}

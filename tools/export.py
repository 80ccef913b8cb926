"""Write course_utils/lessons/<topic>.py: the cells tagged `export` of notebooks/NN_<topic>.py."""

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = '"""{title}\n\nGENERATED from notebooks/{name} by tools/export.py: change it there.\n"""\n\n'


def exported_cells(text):
    """The sources of the cells tagged `export` in a percent script, in order."""
    cells = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    for header, source in zip(cells[1::2], cells[2::2], strict=True):
        if re.search(r'tags=\[[^\]]*"export"', header):
            yield source.strip()


def module(notebook):
    """The module's text: imports first, then each cell two lines apart."""
    text = notebook.read_text(encoding="utf-8")
    title = re.search(r"^# # (.+)$", text, flags=re.MULTILINE)[1]
    imports, definitions = [], []
    for cell in exported_cells(text):
        starts = re.match(r"(import|from) ", cell)
        (imports if starts else definitions).append(cell)
    return (
        HEAD.format(title=title.rstrip(".") + ".", name=notebook.name)
        + "\n".join(imports)
        + "\n\n\n"
        + "\n\n\n".join(definitions)
        + "\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    only_check = parser.parse_args().check

    stale = []
    for notebook in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")):
        target = ROOT / "course_utils" / "lessons" / f"{notebook.stem[3:]}.py"
        text = module(notebook)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(str(target.relative_to(ROOT)))
            if not only_check:
                target.write_text(text, encoding="utf-8")
    if stale and only_check:
        sys.exit(f"stale: {', '.join(stale)}; run python tools/export.py")
    print(
        "\n".join(f"wrote {name}" for name in stale) or "every module is in step with its notebook"
    )


if __name__ == "__main__":
    main()

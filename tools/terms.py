"""What is used before it is explained? Each glossary term and PyTorch function, at its first use.

3·17 is cell 17 of lesson 3. A term is explained where a lesson sets it in bold or links it; a
PyTorch function where the prose names it in code type. The last line names bold terms that the
glossary lacks.
"""

import argparse
import ast
import re
from importlib.util import find_spec
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parent.parent
BOLD = r"\*\*([^*\n]+)\*\*"
LINK = r"\[([^]\n]+)\]\("
OF_PYTHON = {name for kind in (str, list, dict, set, int) for name in dir(kind)}


def cells():
    """(place, cell) over all lessons, without folded solutions."""
    for script in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.py")):
        for i, cell in enumerate(jupytext.read(script).cells):
            if "solution" not in cell.metadata.get("tags", []):
                yield (int(script.stem[:2]), i), cell


def glossary():
    """The terms, one by one: "top-k, top-p" are two."""
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    (entries,) = re.findall(r"```\{glossary\}\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"^\S.*", entries, re.MULTILINE)
    return [term for line in lines for term in line.split(", ")]


def tensor_methods():
    """What a tensor can do, from PyTorch's stubs: to import it takes longer than all the rest."""
    stubs = Path(find_spec("torch").origin).parent / "_C" / "__init__.pyi"
    _, _, rest = stubs.read_text(encoding="utf-8").partition("\nclass TensorBase")
    tensor, _, _ = rest.partition("\nclass ")
    return set(re.findall(r"^    def ([a-z]\w+)\(", tensor, re.MULTILINE))


def calls(code, methods):
    """What a cell calls of PyTorch's: "torch.arange", "nn.Linear", ".softmax"."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = ast.unparse(node.func)
            if re.fullmatch(r"(torch|nn|F)(\.\w+)+", name):
                yield name
            elif node.func.attr in methods - OF_PYTHON:
                yield f".{node.func.attr}"


def first(places, pattern):
    """The first place whose text matches, or None."""
    found = (place for place, text in places if re.search(pattern, text, re.IGNORECASE))
    return next(found, None)


def of_terms(prose):
    """(term, first use, where it is explained) for each glossary term that a lesson uses."""
    marked = [
        (at, "\n".join(m[0] for m in re.finditer(f"{BOLD}|{LINK}", text))) for at, text in prose
    ]
    for term in glossary():
        either = re.escape(term).replace("\\-", "[- ]")
        word = rf"\b{either}(s|es)?\b"
        if used := first(prose, word):
            yield term, used, first(marked, word)


def of_functions(prose, code):
    """(function, first call, where the prose names it) for all that the lessons call."""
    used, methods = {}, tensor_methods()
    for place, source in code:
        for name in calls(source, methods):
            used.setdefault(name, place)
    for name, place in used.items():
        yield name, place, first(prose, rf"`[^`\n]*\b{name.split('.')[-1]}\b[^`\n]*`")


def missing(prose):
    """Bold words that look like terms, and have no entry in the glossary."""
    known = {term.lower() for term in glossary()}
    for _, text in prose:
        for term in re.findall(BOLD, text):
            word = term.lower().removesuffix("s")
            looks_like_one = re.fullmatch(r"[a-z][\w-]*( [\w-]+){0,2}", term, re.IGNORECASE)
            if looks_like_one and not {term.lower(), word} & known:
                yield term


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words = "only what is explained after its first use, or nowhere"
    parser.add_argument("--late", action="store_true", help=words)
    late_only = parser.parse_args().late
    prose, code = [], []
    for place, cell in cells():
        (prose if cell.cell_type == "markdown" else code).append((place, cell.source))
    tables = {"term": of_terms(prose), "PyTorch": of_functions(prose, code)}
    for title, rows in tables.items():
        rows = sorted(rows, key=lambda row: row[1])
        late = [row for row in rows if row[2] is None or row[2] > row[1]]
        print(f"{title:36} used   explained")
        for name, *places in late if late_only else rows:
            used, explained = ("{}·{}".format(*at) if at else "–" for at in places)
            print(f"{name:36} {used:6} {explained}")
        print(f"{len(rows)} in all, {len(late)} of them late or nowhere\n")
    print("bold, but not in the glossary:", ", ".join(dict.fromkeys(missing(prose))) or "nothing")


if __name__ == "__main__":
    main()

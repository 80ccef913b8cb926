"""Is the Chinese edition in step with the English? Per lesson and page: current, stale, missing.

Each Chinese text cell, and each section of a page, bears the hash of the English that it says:
after a change of the English it is stale until somebody brings it up to date and stamps it. Code
is the English code, with the words of notebooks/zh/NN_topic.po put in. Fails where anything is
stale, missing, or lacks what its English has (tools/parity.py).
"""

import argparse
import ast
import csv
import os
import re
import sys
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import jupytext
import nbformat
import parity
from babel.messages.pofile import normalize, read_po

ROOT = Path(__file__).resolve().parent.parent
ENGLISH_ONLY = {"architecture", "log", "performance", "references", "reliability"}  # pages
STAMP = re.compile(r"% english: (\w+)\n")
LITERAL = re.compile(r"""[a-zA-Z]{,2}("{3}|'{3}|"|')((?:\\.|(?!\1).)*)\1""", re.DOTALL)

IN_CHINESE = """# 图、表和提示都用中文；图里的汉字用 zhplot 带来的字体。
import os

_ = os.environ.setdefault("COURSE_LANGUAGE", "zh")
if importlib.util.find_spec("zhplot") is None:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "zhplot"], check=True)"""  # said in the set-up, wherever it is opened


@dataclass
class Unit:
    """A cell of a lesson or a section of a page, with the hash of the English that it is of."""

    text: str
    english: str = ""
    cell: nbformat.NotebookNode | None = None

    @property
    def is_code(self):
        return self.cell is not None and self.cell.cell_type == "code"

    def stamp(self, english):
        self.english = english
        if self.cell is not None and not self.is_code:
            self.cell.metadata["english"] = english

    @property
    def is_said(self):
        """Is there any Chinese in it, or no need for it?"""
        return bool(parity.HAN.search(self.text)) or not any(
            fault.startswith("not translated") for fault in parity.faults(self.text, self.text)
        )


def digest(text):
    return sha256(text.strip().encode()).hexdigest()[:8]


def originals(root=ROOT):
    """The English lessons and pages that have, or should have, a Chinese twin."""
    pages = sorted((root / "book").glob("*.md"))
    return [
        *sorted((root / "notebooks").glob("[0-9][0-9]_*.py")),
        *(page for page in pages if page.stem not in ENGLISH_ONLY),
    ]


def twin(path):
    """notebooks/01_data.py -> notebooks/zh/01_data.py"""
    return path.parent / "zh" / path.name


def link(target, path):
    """Where a link of the English text in that file leads in its twin."""
    address, mark, anchor = target.partition("#")
    if re.match(r"\w+:", address):
        return re.sub(r"/notebooks/(\d\d_\w+\.ipynb)$", r"/notebooks/zh/\1", target)
    if not address:
        return target
    to = Path(os.path.normpath(path.parent / address.replace("_english.", "_chinese.")))
    has_twin = re.match(r"\d\d_.*\.ipynb|.*\.md", to.name) and to.stem not in ENGLISH_ONLY
    if has_twin and to.parent.name in ("book", "notebooks"):
        to = twin(to)
    return Path(os.path.relpath(to, twin(path).parent)).as_posix() + mark + anchor


# --- a file and its units -------------------------------------------------------------------------
def units(path):
    """A lesson's cells, or a page's sections."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return [*sections(text)]
    cells = deepcopy(read(text).cells)
    return [Unit(cell.source, cell.metadata.get("english", ""), cell) for cell in cells]


@cache
def read(text):
    """The notebook of a percent script. Don't change it: others get the same one."""
    return jupytext.reads(text, fmt="py:percent")


def sections(page):
    """From heading to heading; what stands before the first is a section too."""
    lines = page.splitlines(keepends=True)
    starts = [
        token.map[0]
        for token in parity.PARSER.parse(page)
        if token.type == "heading_open" and token.level == 0
    ]
    starts = [at - 1 if at and STAMP.fullmatch(lines[at - 1]) else at for at in starts]
    bounds = sorted({0, *starts, len(lines)})
    for begin, end in pairwise(bounds):
        text = "".join(lines[begin:end])
        stamp = STAMP.match(text)
        yield Unit(STAMP.sub("", text, count=1), stamp[1] if stamp else "")


def rendered(path, pairs):
    """The text of the Chinese file for an English one."""
    if path.suffix == ".md":
        return "\n".join(f"% english: {new.english}\n{new.text.strip()}\n" for _, new in pairs)
    notebook = copy(read(path.read_text(encoding="utf-8")))
    notebook["cells"] = [new.cell for _, new in pairs]
    return jupytext.writes(notebook, fmt="py:percent")


# --- the words in code ----------------------------------------------------------------------------
@cache
def literals(source):
    """[(start, end), …] of what stands between the quotes of each string but docstrings."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # IPython's own
        return []
    lines = source.splitlines(keepends=True)

    def place(line, column):
        start = sum(map(len, lines[: line - 1]))
        return start + len(lines[line - 1].encode()[:column].decode())

    found, nodes = [], [tree]
    while nodes:
        node = nodes.pop()
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text or isinstance(node, ast.JoinedStr):
            start = place(node.lineno, node.col_offset)
            end = place(node.end_lineno, node.end_col_offset)
            found += [match.span(2) for match in LITERAL.finditer(source, start, end)]
            continue
        has_docstring = isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node)
        children = [*ast.iter_child_nodes(node)]
        nodes += [child for child in children if not has_docstring or child is not node.body[0]]
    return sorted(found)


def in_chinese(cell, messages):
    """A code cell's source as a Chinese lesson has it."""
    tags = cell.metadata.get("tags", [])
    if "setup" in tags:
        return f"{cell.source}\n\n{IN_CHINESE}"
    return cell.source if "export" in tags else put_in(cell.source, messages)


def put_in(source, messages):
    """The source with the messages in place of the English words."""
    for start, end in reversed(literals(source)):
        if said := messages.get(source[start:end]):
            source = source[:start] + said + source[end:]
    return source


def catalogue(path):
    """{English words between quotes: Chinese ones} of a lesson's .po, whose name may be missing."""
    po = path.with_suffix(".po")
    if not po.is_file():
        return {}
    with po.open("rb") as file:
        return {message.id: message.string for message in read_po(file) if message.id}


def words_in_code(cells):
    """What stands between quotes in a lesson's cells, each once, in order."""
    return dict.fromkeys(
        cell.source[start:end]
        for cell in cells
        if cell.cell_type == "code" and "export" not in cell.metadata.get("tags", [])
        for start, end in literals(cell.source)
    )


def unlisted(cells, messages):
    """Sentences in code of which the catalogue doesn't say what they are in Chinese.

    A text that stays English is listed too, as itself.
    """
    for words in words_in_code(cells):
        if words not in messages and re.search(r"[a-z]{2} [a-z]{2}", re.sub(r"\{.*?\}", "", words)):
            yield words


def fields(text):
    """The placeholders of a text, without the words that one may choose between."""
    return sorted(re.sub(r"'.*?'", "", field) for field in re.findall(r"\{[^{}]*\}", text))


def catalogue_faults(cells, messages):
    """What is wrong with a lesson's catalogue."""
    said_by_code = words_in_code(cells)
    yield from (f"not in the catalogue: “{words}”" for words in unlisted(cells, messages))
    for english, chinese in messages.items():
        if english not in said_by_code:
            yield f"no code says “{english}”"
        if not chinese:
            yield f"no Chinese for “{english}”"
        if chinese and fields(english) != fields(chinese):
            yield f"other placeholders: “{chinese}”"
    for source in (cell.source for cell in cells if cell.cell_type == "code"):
        if len(literals(put_in(source, messages))) != len(literals(source)):
            yield f"no Python with its Chinese words: {source[:40]!r}"


# --- the pairs ------------------------------------------------------------------------------------
def paired(english, chinese, messages):
    """For each English unit its Chinese one or None: by hash, else by the neighbours' places."""
    wanted = [in_chinese(u.cell, messages) if u.is_code else digest(u.text) for u in english]
    given = [u.text if u.is_code else u.english for u in chinese]
    partner, free = [None] * len(english), set(range(len(chinese)))

    def join(i, j):
        fits = 0 <= i < len(english) and partner[i] is None and j in free
        if fits and english[i].is_code == chinese[j].is_code:
            partner[i] = j
            free.discard(j)

    for i, key in enumerate(wanted):
        if same := [j for j in sorted(free) if given[j] == key]:
            join(i, same[0])
    for i in range(len(english)):
        before = partner[i - 1] if i else -1
        if before is not None:
            join(i, before + 1)
    for i in reversed(range(len(english) - 1)):
        if partner[i + 1] is not None:
            join(i, partner[i + 1] - 1)
    return [None if j is None else chinese[j] for j in partner]


def synced(path):
    """The Chinese units of an English file as they should stand: [(English, Chinese), …]."""
    english, chinese = list(units(path)), list(units(twin(path)))
    messages = catalogue(twin(path))
    found = []
    for ours, theirs in zip(english, paired(english, chinese, messages), strict=True):
        stamp = theirs.english if theirs else ""
        new = Unit(theirs.text if theirs else ours.text, stamp or digest(ours.text))
        if ours.cell is not None:
            new.text = in_chinese(ours.cell, messages) if ours.is_code else new.text
            new.cell = deepcopy(ours.cell)
            new.cell["source"] = new.text
            new.stamp(new.english)
        found.append((ours, new))
    return found


def list_words(path):
    """Add to a lesson's catalogue the sentences that it lacks."""
    if path.suffix == ".py":
        found = unlisted([unit.cell for unit in units(path)], catalogue(twin(path)))
        with twin(path).with_suffix(".po").open("a", encoding="utf-8") as file:
            file.writelines(f'\nmsgid {normalize(words)}\nmsgstr ""\n' for words in found)


def stamp(path, places=()):
    """Say of some units, or all, that they are up to date with their English."""
    pairs = synced(path)
    for i in places or range(len(pairs)):
        ours, theirs = pairs[i]
        theirs.stamp(digest(ours.text))
    twin(path).write_text(rendered(path, pairs), encoding="utf-8")


# --- the verdict ----------------------------------------------------------------------------------
def vocabulary(root=ROOT):
    """{English term: ([Chinese words that may stand for it], where this is checked)}"""
    with (root / "book/zh/terms.tsv").open(encoding="utf-8") as file:
        return {
            row["english"].lower(): (row["chinese"].split("，"), row["checked"])
            for row in csv.DictReader(file, delimiter="\t")
        }


def state(ours, theirs):
    """current, stale or missing"""
    if not theirs.is_said:
        return "missing"
    return "current" if theirs.english == digest(ours.text) else "stale"


def report(path, terms):
    """Of an English file: {current: n, stale: [places], missing: [places], faults: [sentences]}."""
    if not twin(path).is_file():
        count = sum(not unit.is_code for unit in units(path))
        return {"current": 0, "stale": [], "missing": [*range(count)], "faults": []}
    pairs = synced(path)
    found = {"current": [], "stale": [], "missing": [], "faults": []}
    for i, (ours, theirs) in enumerate(pairs):
        if ours.is_code:
            continue
        found[state(ours, theirs)].append(i)
        if theirs.is_said:
            wrong = parity.faults(ours.text, theirs.text, lambda to: link(to, path), terms)
            found["faults"] += [f"{i}: {fault}" for fault in wrong]
    if path.suffix == ".py":
        cells = [ours.cell for ours, _ in pairs]
        found["faults"] += catalogue_faults(cells, catalogue(twin(path)))
    if rendered(path, pairs) != twin(path).read_text(encoding="utf-8"):
        found["faults"].append("out of step: run python tools/translations.py --sync")
    return found | {"current": len(found["current"])}


def table(paths, terms):
    """Print what is found of each file. -> is all in order?"""
    print(f"{'':28} current  stale  missing  faults")
    found = {path: report(path, terms) for path in paths}
    for path, row in found.items():
        counts = [row["current"], *(len(row[name]) for name in ("stale", "missing", "faults"))]
        name = path.relative_to(ROOT).as_posix()
        print(f"{name:28} {counts[0]:7} {counts[1]:6} {counts[2]:8} {counts[3]:7}")
    for path, row in found.items():
        for name in ("stale", "missing"):
            if row[name] and twin(path).is_file():
                print(f"{path.stem}: {name}: {', '.join(map(str, row[name]))}")
        for fault in row["faults"]:
            print(f"{path.stem}: {fault}")
    return not any(row[name] for row in found.values() for name in ("stale", "missing", "faults"))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--sync",
        action="store_true",
        help="write the Chinese files anew: new English cells, all code, their order",
    )
    how.add_argument(
        "--stamp",
        nargs="+",
        metavar=("FILE", "CELL"),
        help="these cells or sections of a Chinese file, or all, say what the English says now",
    )
    args = parser.parse_args()
    paths = originals()
    if args.stamp:
        file, *places = args.stamp
        named = [path for path in paths if twin(path) == Path(file).resolve()]
        if not named or not all(place.isdigit() for place in places):
            sys.exit(f"--stamp takes a file such as {twin(paths[0]).relative_to(ROOT)} and numbers")
        stamp(named[0], [int(place) for place in places])
    elif args.sync:
        for path in paths:
            if twin(path).is_file():
                text = rendered(path, synced(path))
                twin(path).write_text(text, encoding="utf-8")
                list_words(path)
    elif not table(paths, vocabulary()):
        sys.exit(1)


if __name__ == "__main__":
    main()

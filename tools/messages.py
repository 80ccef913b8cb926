"""Keep the catalogue of what the course says in step: python tools/messages.py [--check]

What the code has in `_`, `N_`, `say` and `ngettext`, and each exercise's title, comes into
course.po, new texts with nothing said for them yet; what is gone leaves it. Python reads what is
compiled from it, course.mo.
"""

import argparse
import io
import re
import sys
from pathlib import Path
from string import Formatter

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po, write_po

from course_utils import widgets

ROOT = Path(__file__).resolve().parent.parent
PO = ROOT / "course_utils/messages/locale/zh/LC_MESSAGES/course.po"
MO = PO.with_suffix(".mo")
FOLDERS = ("course_utils", "book/_ext")  # the package, and what the book computes
KEYWORDS = {"_": None, "N_": None, "say": None, "ngettext": (1, 2), "exercise": (2,)}
HEAD = rb"""# What the course says, in Chinese; tools/messages.py keeps it in step with the code.
msgid ""
msgstr ""
"Language: zh\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=1; plural=0;\n"

"""


def of_module(file, *_, options):
    """What a widget's .mjs says, as Babel asks for it."""
    for number, text in enumerate(widgets.texts(file.read().decode())):
        yield number, "_", text, []


KINDS = [("**.py", "python"), ("**.mjs", of_module)]


def wanted():
    """What the code says now, with the Chinese that there is for it. -> Catalog"""
    with PO.open("rb") as file:
        known = read_po(file, locale="zh")
    catalogue = Catalog(locale="zh", fuzzy=False)
    for folder in FOLDERS:
        found = extract_from_dir(ROOT / folder, KINDS, keywords=KEYWORDS)
        for file, line, text, *_ in sorted(found, key=lambda message: message[:2]):
            chinese = known[text].string if text in known else None
            catalogue.add(text, chinese, locations=[(f"{folder}/{file}", line)])
    return catalogue


def as_po(catalogue):
    file = io.BytesIO()
    write_po(file, catalogue, width=100, omit_header=True, include_lineno=False)
    return HEAD + file.getvalue()


def as_mo(catalogue):
    file = io.BytesIO()
    write_mo(file, catalogue)
    return file.getvalue()


def stale(catalogue):
    """{path: content} of the files that don't say what the code wants, as they should be."""
    files = {}
    if PO.read_bytes() != as_po(catalogue):
        files[PO] = as_po(catalogue)
    if not MO.is_file() or said_in(MO.read_bytes()) != said_in(as_mo(catalogue)):
        files[MO] = as_mo(catalogue)
    return files


def said_in(mo):
    """What is said there, whoever compiled it and when."""
    return [(message.id, message.string) for message in read_mo(io.BytesIO(mo)) if message.id]


def untranslated(catalogue):
    """What has no Chinese, or Chinese with other placeholders. -> a sentence each"""
    for message in catalogue:
        english = message.id if isinstance(message.id, tuple) else (message.id,)
        chinese = message.string if isinstance(message.string, tuple) else (message.string,)
        if not english[0]:
            continue  # the head
        if not all(chinese):
            yield f"nothing is said in Chinese for {english[0]!r}"
        elif placeholders(chinese[0]) != placeholders(english[-1]):
            yield f"{chinese[0]!r} has other placeholders than {english[-1]!r}"


def placeholders(text):
    r"""The {names}, %s and \1 of a text."""
    try:
        found = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
        names = {f"{{{name or number}}}" for number, name in enumerate(found)}  # {} is {0}
    except ValueError:  # a brace that stands for itself
        names = set()
    return names | set(re.findall(r"%(?:\(\w+\))?[rsd]|\\\d", text))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    only_check = parser.parse_args().check

    catalogue = wanted()
    problems = list(untranslated(catalogue))
    for path, content in stale(catalogue).items():
        if only_check:
            problems.append(f"stale: {path.relative_to(ROOT)}")
        else:
            path.write_bytes(content)
    print("\n".join(problems) or "the catalogue has all that the code says")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

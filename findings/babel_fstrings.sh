#!/usr/bin/env bash
# Which texts Babel finds in a program depends on the Python that runs Babel, not on the program.
#
# Software: Babel 2.18.0. Input: a Python file in which gettext is called inside an f-string's braces, as is allowed in
# every Python since 3.6 (here with other quotes inside, which 3.11 wants too).
# Until 3.11 Python's tokenizer hands an f-string over as one token; from 3.12 on (PEP 701) its inside is tokens of its
# own. Babel reads tokens: the same file, with the same Babel, gives another catalogue, and no warning.
#
#   Python 3.11.2: plain
#   Python 3.12.1: plain, inside
#
# What follows: two who keep one catalogue each remove what the other adds; take the call out of the f-string, and the
# catalogue is the same for all.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet babel==2.18.0

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

from babel.messages.extract import extract

program = b"""
from gettext import gettext as _
plain = _("plain")
greeting = f"{_('inside')}, {plain}"
"""
found = [message for _, message, *_ in extract("python", io.BytesIO(program))]
print(f"Python {sys.version.split()[0]}: {', '.join(found)}")
expected = ["plain", "inside"] if sys.version_info >= (3, 12) else ["plain"]
raise SystemExit(found != expected)
PYTHON

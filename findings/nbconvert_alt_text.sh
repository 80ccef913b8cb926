#!/usr/bin/env bash
# One notebook, one alt text: a template of nbconvert reads it out, the default one says that there is none.
#
# Software: nbconvert 7.17.2 (nbformat 5.11.0). Input: a valid notebook with one output, a PNG whose metadata holds its alt text
# where nbconvert's own `classic` template looks for it: metadata["image/png"]["alt"].
# `--template classic` writes that text into alt="…". The default template, `lab`, and the one of the slides, `reveal`, which builds on it,
# write alt="No description has been provided for this image" over a picture that has one. Width and height are taken from the same
# entry by all three.
#
#   classic: A red dot, reveal: No description …, lab: No description …
#
# What follows: a reader of the default HTML or slides hears that every figure lacks a description, whatever its author wrote.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nbconvert==7.17.2 nbformat==5.11.0

"$folder/venv/bin/python" - <<'PYTHON'
import re

import nbformat
from nbconvert import HTMLExporter, SlidesExporter

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
metadata = {"image/png": {"alt": "A red dot", "width": 20}}
output = nbformat.v4.new_output("display_data", {"image/png": DOT}, metadata=metadata)
cell = nbformat.v4.new_code_cell("dot", outputs=[output], execution_count=1)
notebook = nbformat.v4.new_notebook(cells=[cell])
nbformat.validate(notebook)

seen = {}
for name, exporter in {
    "classic": HTMLExporter(template_name="classic"),
    "lab": HTMLExporter(),
    "reveal": SlidesExporter(),
}.items():
    page, _ = exporter.from_notebook_node(notebook)
    picture = re.search(r"<img[^>]*data:image/png[^>]*>", page, re.DOTALL)[0]
    seen[name] = re.search(r'alt="([^"]*)"', picture)[1] if "alt=" in picture else "(no alt)"
    seen[name] += ", width taken" if re.search(r'width="?20', picture) else ", width not taken"
print(seen)
default = "No description has been provided for this image, width taken"
raise SystemExit(seen != {"classic": "A red dot, width taken", "lab": default, "reveal": default})
PYTHON

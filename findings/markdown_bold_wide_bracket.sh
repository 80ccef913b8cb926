#!/usr/bin/env bash
# A bold Chinese term with its English in brackets shows its asterisks, if the sentence goes on.
#
# Software: markdown-it-py 3.0.0, by which MyST and Jupyter Book 1 read Markdown. Input: Markdown in
# Chinese, `**注意力（attention）**让`, as a textbook in Chinese has it at every new term.
# By CommonMark's rule a `**` after a punctuation mark closes only before a space or another punctuation mark. In English
# there always is a space; Chinese has none, and its full-width bracket is a punctuation mark. So both `**` stay words.
#
#   **term (English)** goes on        bold
#   **注意力**让                       bold
#   **注意力（attention）**，让        bold
#   **注意力（attention）**让          two asterisks, the words, two asterisks
#
# What follows: put the brackets outside, `**注意力**（attention）让`; no tool warns, and in English nothing is to be seen.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet markdown-it-py==3.0.0

"$folder/venv/bin/python" - <<'PYTHON'
from markdown_it import MarkdownIt

texts = {
    "**term (English)** goes on": True,
    "**注意力**让": True,
    "**注意力（attention）**，让": True,
    "**注意力（attention）**让": False,
}
bold = {text: "<strong>" in MarkdownIt().render(text) for text in texts}
for text, one in bold.items():
    print(text, "bold" if one else "not bold", sep=": ")
raise SystemExit(bold != texts)
PYTHON

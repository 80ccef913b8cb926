#!/usr/bin/env bash
# "Only what is in the table of contents" publishes what lies in dot folders, and nothing else besides.
#
# Software: Jupyter Book 1.0.4.post1. Input: a book of one page, a draft beside it, and what pytest leaves behind.
# `only_build_toc_files: true` keeps out draft.md and folder/draft.md, as it says. But it finds what to keep out by a
# search that passes over names with a dot, and Sphinx looks there: .pytest_cache/README.md becomes a page of the
# book, and with -W the build fails on a file that git ignores. (Jupyter's .ipynb_checkpoints are kept out by default.)
#
#   pages built: .pytest_cache/README.html, intro.html (and Sphinx's own)
#
# What follows: `exclude_patterns: [".*", "**/.*"]` in _config.yml, or old notes in a dot folder go public.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet jupyter-book==1.0.4.post1 sphinx==7.4.7 sphinx-book-theme==1.2.0

mkdir -p "$folder/book/.pytest_cache" "$folder/book/folder"
cd "$folder/book"
printf 'format: jb-book\nroot: intro\n' >_toc.yml
printf 'title: t\nonly_build_toc_files: true\n' >_config.yml
for page in intro draft folder/draft .pytest_cache/README; do echo "# A page" >"$page.md"; done
"$folder/venv/bin/jupyter-book" build . >build.log 2>&1
for page in intro draft folder/draft .pytest_cache/README; do
    if [ -e "_build/html/$page.html" ]; then echo "$page: published"; else echo "$page: kept out"; fi
done | tee pages
printf 'intro: published\ndraft: kept out\nfolder/draft: kept out\n.pytest_cache/README: published\n' | diff - pages

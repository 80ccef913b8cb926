"""Lessons out, notebooks back: the handout without solutions, and the grading of what returns."""

import sys

# What nbformat loads would spend a second on a grammar of web addresses, in each notebook's runner.
sys.modules.setdefault("rfc3987_syntax", None)

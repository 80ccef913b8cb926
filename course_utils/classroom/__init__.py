"""Lessons out, notebooks back: the handout without solutions, and the grading of what returns."""

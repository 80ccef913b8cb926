#!/usr/bin/env bash
# Saving a figure moves it.
#
# Software: Matplotlib 3.11.2 with NumPy 2.4.6. Input: an image and its colour bar in a figure with layout="constrained".
# Nothing is changed between three calls of savefig, and yet each gives another picture: the layout starts from where the last
# drawing left the axes, and each drawing takes it one step further. Axes without a colour bar stay where they are.
#
#   left edge of the axes after the 1st, 2nd, 3rd savefig:  0.15527  0.15208  0.15101
#   with the colour bar three pictures, without it one
#
# What follows: compare pictures of fresh figures only; a PNG and an SVG saved from one figure are not the same drawing.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet matplotlib==3.11.2 numpy==2.4.6

MPLCONFIGDIR="$folder" MPLBACKEND=agg "$folder/venv/bin/python" - <<'PYTHON'
import io

import matplotlib.pyplot as plt


def saved_three_times(colour_bar):
    figure = plt.figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow([[0, 1], [1, 0]])
    if colour_bar:
        figure.colorbar(image)
    edges, pictures = [], set()
    for _ in range(3):
        file = io.BytesIO()
        figure.savefig(file, format="png")
        pictures.add(file.getvalue())
        edges.append(axes.get_position().x0)
    return edges, len(pictures)


edges, with_bar = saved_three_times(True)
_, without = saved_three_times(False)
print("left edge:", *(f"{edge:.5f}" for edge in edges))
print(f"pictures: {with_bar} with a colour bar, {without} without")
raise SystemExit(not (with_bar == 3 and without == 1))
PYTHON

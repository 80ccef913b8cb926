"""Pictures on a page: sharp at any size, and at home on a dark one.

The style sheet turns charts over there, white to black. A map can't be turned over: its brightness
is what it says, and the text reads it. So it gets a twin, whose ground is dark and whose colours
are its own.
"""

import html
import io
from base64 import b64encode

import matplotlib
import numpy as np
from docutils import nodes
from matplotlib.image import imread, imsave
from scipy.ndimage import uniform_filter
from scipy.spatial import KDTree

from course_utils.messages import _

MAP = KDTree(matplotlib.colormaps["viridis"](np.arange(256))[:, :3])
SURELY = 0.04  # the largest distance of a colour from one of the map's
ENOUGH = 0.1  # the share of a picture that makes it a map
COLOURED = 0.12  # between the strongest and the weakest of red, green and blue
NEAR = 41  # pixels: a number on a map is surrounded by the map


def drawn(figure, name, width="none"):
    """A Figure as lines and words of the page, in a box that scrolls where it is too narrow.

    name: a word of letters, another one for each picture of a page. width: at most, in CSS.
    """
    label = _("figure")
    box = f'class="picture" role="group" tabindex="0" aria-label="{label}"'
    element = f'<div {box} style="max-width: {width}">{figure.svg(name)}</div>'
    return nodes.raw("", element, format="html")


def is_map(picture):
    """Whether much of a picture (H, W, 3) has the colours of a map."""
    some = picture[::4, ::4].reshape(-1, 3)
    distance = MAP.query(some, p=np.inf)[0]
    coloured = np.ptp(some, axis=1) > COLOURED
    return np.mean((distance < SURELY) & coloured) > ENOUGH


def turned(picture):
    """The picture (H, W, 3) with its greys turned over, but for those that stand on colours."""
    coloured = np.ptp(picture, axis=2) > COLOURED
    on_colours = uniform_filter(coloured.astype(float), NEAR) > 0.5
    grey = ~(coloured | on_colours)
    return np.where(grey[..., None], 1 - picture, picture)


def twin(path, alt):
    """A map's dark twin, as an element for the page; None for any other picture."""
    picture = imread(path)[..., :3]
    if not is_map(picture):
        return None
    file = io.BytesIO()
    imsave(file, turned(picture), format="png")
    uri = "data:image/png;base64," + b64encode(file.getvalue()).decode()
    element = f'<img class="only-dark" alt="{html.escape(alt)}" src="{uri}">'
    return nodes.raw("", element, format="html")

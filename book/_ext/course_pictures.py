"""Pictures on a page: lines and words, sharp at any size, and at home on a dark one.

The style sheet turns charts over there, white to black. A map can't be turned over: its brightness
is what it says, and the numbers on it read it. So it gets a twin, in which all else is turned.
"""

import re

import numpy as np
from docutils import nodes
from matplotlib.colors import to_hex, to_rgb

from course_utils.figures import drawing
from course_utils.messages import _

PART = re.compile(r"<(?!text[^>]*#ffffff)[^>]*>")  # of an SVG, but no white number on a map
COLOUR = re.compile(r'(?<=fill: |roke: |fill="|roke=")#\w{6}')
OURS = {"svg", "g", "defs", "clipPath", "pattern", "path", "rect", "use", "image", "text"}
HUE = 2 * np.array([[0.213, 0.715, 0.072]] * 3) - np.eye(3)  # what hue-rotate(180deg) is in CSS


def drawn(figure, name, width="none"):
    """A Figure as lines and words of the page.

    name: a word of letters, another one for each picture of a page. width: at most, in CSS.
    """
    return boxed(figure.svg(name), width)


def redrawn(path, name):
    """The drawing that lies in a PNG, as lines and words of the page; None in any other picture.

    One with parts that no Figure has stays what it was: a stranger's notebook runs nothing here.
    """
    if path.suffix != ".png" or not path.is_file():
        return None
    picture = drawing.drawing(path, name)
    return boxed(picture) if picture and is_ours(picture) else None


def is_ours(picture):
    """Whether an SVG has no more than a Figure's: no element that acts, no handler, no way out."""
    tags = " ".join(re.findall(r"<[^>]*>", picture))
    links = re.findall(r'href="([^"]*)"', tags)
    bare = re.sub(r'"[^"]*"', "", tags)  # what a value says is text
    names = {*re.findall(r"<([^\s/>]+)", bare)}
    acts = re.search(r"\son\w+\s*=|'", bare, re.IGNORECASE)
    return (
        names <= OURS and not acts and all(to.startswith(("#", "data:image/png")) for to in links)
    )


def boxed(picture, width="none"):
    """An SVG in a box that scrolls where it is too narrow; a map with its twin for dark pages."""
    label = _("figure")
    if "<image" in picture:
        light = picture.replace("<svg", '<svg class="only-light"', 1)
        dark = drawing.named(turned(picture), "dark").replace("<svg", '<svg class="only-dark"', 1)
        picture = light + dark
    box = f'class="picture" role="group" tabindex="0" aria-label="{label}"'
    element = f'<div {box} style="max-width: {width}">{picture}</div>'
    return nodes.raw("", element, format="html")


def turned(picture):
    """A map's SVG for a dark page: as the style sheet turns a chart, but the map and its numbers.

    Black numbers name no colour.
    """
    return PART.sub(lambda part: COLOUR.sub(other, part[0]), picture)


def other(colour):
    """White for black, black for white, and each hue as it is."""
    return to_hex(np.clip(HUE @ (1 - np.array(to_rgb(colour[0]))), 0, 1))

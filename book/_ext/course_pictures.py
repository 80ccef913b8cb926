"""Pictures on a page: lines and words, sharp at any size, and at home on a dark one.

The style sheet turns charts over there, white to black. A map can't be turned over: its brightness
is what it says, and the numbers on it read it. So it gets a twin, whose greys alone are turned.
"""

import re

from docutils import nodes

from course_utils.figures import drawing
from course_utils.messages import _

# Of a part, from black to white without either: those are the numbers on a map.
GREY = re.compile(r'(?<=fill: |roke: |fill="|roke=")#(?!ff|00)([0-9a-f]{2})\1\1\b')


def drawn(figure, name, width="none"):
    """A Figure as lines and words of the page.

    name: a word of letters, another one for each picture of a page. width: at most, in CSS.
    """
    return boxed(figure.svg(name), width)


def redrawn(path, name):
    """The drawing that lies in a PNG, as lines and words of the page; None in any other picture."""
    if path.suffix != ".png" or not path.is_file():
        return None
    picture = drawing.drawing(path, name)
    return picture and boxed(picture)


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
    """A map's SVG for a dark page: its greys turned over, the colours and what is on them not."""
    return GREY.sub(lambda grey: "#" + 3 * f"{255 - int(grey[1], 16):02x}", picture)

"""What moves in a notebook: a picture that is redrawn, and sliders. A plain script gets their first state."""

from functools import partial

STILL = "<p><em>Run this lesson to move the sliders.</em></p>"


def notebook_display():
    """IPython's display where this runs in a notebook; None in a plain script."""
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return None
    return display if get_ipython() else None


class Live:
    """One place in the output where each new figure replaces the one before."""

    def __init__(self):
        self.display, self.handle = notebook_display(), None

    def show(self, figure):
        if self.handle:
            self.handle.update(figure)
        elif self.display:
            self.handle = self.display(figure, display_id=True)


def sliders(function, **ranges):
    """Call function with the sliders' values, now and whenever one moves, and show the figure or text that it returns.

    ranges: name -> (low, high, step, start); a step with a point makes a slider of such numbers. Without a notebook or
    without ipywidgets the function is called once, with the starts, and its result is returned.
    """
    display = notebook_display()
    try:
        import ipywidgets
    except ImportError:
        display = None
    if not display:
        return function(**{name: start for name, (*_, start) in ranges.items()})
    controls = {name: _slider(ipywidgets, name, *limits) for name, limits in ranges.items()}
    output = ipywidgets.interactive_output(partial(_show, display, function), controls)
    box = ipywidgets.VBox([*controls.values(), output])
    display(box._repr_mimebundle_() | {"text/html": STILL}, raw=True)  # the page of the book shows the html
    return None


def _show(display, function, **values):
    result = function(**values)
    if isinstance(result, str):
        print(result)
    else:
        display(result)


def _slider(ipywidgets, name, low, high, step, start):
    kind = ipywidgets.FloatSlider if isinstance(step, float) else ipywidgets.IntSlider
    words = {"description": name.replace("_", "-"), "style": {"description_width": "6em"}}
    return kind(value=start, min=low, max=high, step=step, **words)

"""Comparing what an attempt gave with what was expected, and saying both in words."""

import math
import reprlib

import torch

from course_utils.messages import N_, _

FEW = 12  # a tensor of so many numbers is shown whole
KINDS = (N_("truth values"), N_("whole numbers"), N_("fractions"))


def same(got, expected, tolerance=1e-5):
    """Whether got is expected: floats within tolerance × max(1, |expected|), all else exactly."""
    if isinstance(expected, torch.Tensor):
        if (
            not isinstance(got, torch.Tensor)
            or got.shape != expected.shape
            or kind(got) > kind(expected)
        ):
            return False
        return (
            torch.isclose(got.double(), expected.double(), tolerance, tolerance, equal_nan=True)
            .all()
            .item()
        )
    got, expected = number_of(got), number_of(expected)
    if isinstance(expected, list | tuple):
        got = got.tolist() if isinstance(got, torch.Tensor) else got
        fits = isinstance(got, list | tuple) and len(got) == len(expected)
        return fits and all(same(a, b, tolerance) for a, b in zip(got, expected, strict=True))
    if isinstance(expected, dict):
        fits = isinstance(got, dict) and got.keys() == expected.keys()
        return fits and all(same(got[key], value, tolerance) for key, value in expected.items())
    if isinstance(expected, float) and type(got) in (int, float):
        if not (math.isfinite(expected) and math.isfinite(got)):
            return got == expected or (math.isnan(got) and math.isnan(expected))
        return abs(got - expected) <= tolerance * max(1, abs(expected))
    if type(expected) is int and type(got) is float:
        return got == expected
    return (
        type(got) is type(expected) and got == expected
    )  # the type first: an == of the attempt's own never runs


def kind(tensor):
    """Its place in KINDS. A tensor may be of a simpler kind than was asked for, not of a later."""
    return 0 if tensor.dtype == torch.bool else 1 + tensor.is_floating_point()


def number_of(value):
    """Single numbers of torch and numpy as Python's own; all else as it is."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.ndim == 0 else value
    return (
        value.item()
        if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
        else value
    )


def described(expected, got):
    """Both in words: shapes or types if these differ, of large tensors the first place."""
    if isinstance(expected, torch.Tensor) and isinstance(got, torch.Tensor):
        if expected.shape != got.shape:
            return tuple(map(shape_of, (expected, got)))
        if kind(got) > kind(expected):
            kinds = (_(KINDS[kind(tensor)]) for tensor in (expected, got))
            return tuple(_("a tensor of {kind}", kind=each) for each in kinds)
        wrong = (~torch.isclose(got.double(), expected.double(), equal_nan=True)).nonzero().tolist()
        if expected.numel() > FEW and wrong:
            return tuple(
                _("{value} at {place}", value=show(tensor[tuple(wrong[0])]), place=wrong[0])
                for tensor in (expected, got)
            )
    wanted, found = show(expected), show(got)
    if wanted == found:
        wanted, found = (
            plain(_("{value!r} (a {kind})", value=value, kind=type(value).__name__))
            for value in (expected, got)
        )
    return wanted, found


def show(value):
    """A value in a few words: plain text, no control characters, never long."""
    value = number_of(value)
    if value is None or value is ...:
        return _("nothing")
    if isinstance(value, torch.Tensor):
        shape = shape_of(value)
        return f"{shape}, {rounded(value.tolist())}" if value.numel() <= FEW else shape
    if isinstance(value, torch.nn.Module):
        return _("a {kind}", kind=type(value).__name__)
    return f"{value:.6g}" if isinstance(value, float) else plain(short(value))


def shape_of(tensor):
    """Its shape in words."""
    return _("a tensor of shape {shape}", shape=tuple(tensor.shape))


def rounded(values):
    """Nested lists of numbers with six digits, as text."""
    return f"[{', '.join(map(rounded, values))}]" if isinstance(values, list) else show(values)


class Brief(reprlib.Repr):
    """repr, cut where it is long; fractions with six digits."""

    def repr_float(self, x, level):
        return f"{x:.6g}"


def short(value):
    """repr, cut where it is long."""
    brief = Brief()
    brief.maxstring = brief.maxother = 80
    brief.maxlist = brief.maxtuple = 12
    return brief.repr(value)


def plain(text):
    """Text in which nothing acts on a terminal, at most 300 characters."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= 300 else text[:299] + "…"

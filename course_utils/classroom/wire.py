"""What passes between a notebook and its judge: plain values, as JSON and safetensors.

Nothing that is received runs: no pickle, no code, no name that is looked up. A function doesn't
cross; it is lent, and the other side may call it, with plain values and for plain values.
"""

import functools
import json
from collections.abc import Iterator

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from course_utils.messages import _

MOST_BYTES = 64_000_000  # of a message, and of the tensors that come with it
MOST_VALUES = 200_000  # in a message; a tensor is one
DEEPEST = 50  # lists within lists


class Lost(BaseException):
    """The other side is gone or breaks the rules. Not an Exception: no attempt's own error."""


class Unreadable(ValueError):
    """A value that can't cross."""


class Other:
    """Stands for a value of a kind that doesn't cross; it equals nothing."""


class Several:
    """Stands for what can be gone through and is no list: a view, a deque, a class of one's own."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


class Packing:
    """A message on its way out: JSON's own kinds as they are, all others as {kind: content}."""

    def __init__(self, lend):
        self.lend = lend  # function -> the number that it is called by
        self.tensors = {}  # name -> tensor
        self.values_left = MOST_VALUES
        self.bytes_left = MOST_BYTES
        self.depth = 0

    def pack(self, value):
        self.values_left -= 1
        if self.values_left < 0 or self.depth > DEEPEST:
            raise Unreadable(_("more values than can be judged"))
        if value is None or type(value) in (bool, int, float, str):
            return value
        return self.form(value)

    def each(self, values):
        self.depth += 1
        packed = [self.pack(value) for value in values]
        self.depth -= 1
        return packed

    @functools.singledispatchmethod
    def form(self, value):
        if callable(value):
            return {"callable": self.lend(value)}
        try:
            return {"several": self.each(iter(value))}
        except TypeError:
            return {"other": type(value).__name__}

    @form.register(list)
    def _(self, value):
        return self.each(value)

    @form.register(tuple)
    def _(self, value):
        return {"tuple": self.each(value)}

    @form.register(set | frozenset)
    def _(self, value):
        return {"set": self.each(value)}

    @form.register(dict)
    def _(self, value):
        return {"dict": self.each(map(list, value.items()))}

    @form.register(Iterator)
    def _(self, value):
        return {"iterator": self.each(value)}

    @form.register(type(...))
    def _(self, value):
        return {"ellipsis": None}

    @form.register(torch.Tensor)
    def _(self, value):
        if value.layout != torch.strided or value.is_complex():
            raise Unreadable(_("a tensor that is sparse or complex"))
        return {"tensor": self.keep(value.detach().as_subclass(torch.Tensor))}

    @form.register(np.ndarray | np.generic)
    def _(self, value):
        try:
            tensor = torch.from_numpy(np.array(value))
        except TypeError:  # texts, dates, objects
            return {"other": type(value).__name__}
        if tensor.is_complex():
            raise Unreadable(_("complex numbers"))
        return {"number" if isinstance(value, np.generic) else "array": self.keep(tensor)}

    def keep(self, tensor):
        self.bytes_left -= tensor.nbytes
        if self.bytes_left < 0:
            raise Unreadable(_("more numbers than can be judged"))
        name = str(len(self.tensors))
        self.tensors[name] = tensor.cpu().clone(memory_format=torch.contiguous_format)
        return name


class Unpacking:
    """A message that came in. borrow: what `lend` gave on the other side -> a function"""

    def __init__(self, tensors, borrow):
        self.tensors = tensors
        self.forms = {
            "tuple": lambda content: tuple(self.each(content)),
            "set": lambda content: set(self.each(content)),
            "dict": lambda content: dict(self.each(content)),
            "iterator": lambda content: iter(self.each(content)),
            "several": lambda content: Several(self.each(content)),
            "ellipsis": lambda _: ...,
            "tensor": lambda name: tensors[name],
            "array": lambda name: tensors[name].numpy(),
            "number": lambda name: tensors[name].numpy()[()],
            "callable": borrow,
            "other": lambda name: type(identifier(name), (Other,), {})(),
        }

    def unpack(self, tree):
        if isinstance(tree, list):
            return self.each(tree)
        if isinstance(tree, dict):
            ((kind, content),) = tree.items()
            return self.forms[kind](content)
        return tree

    def each(self, trees):
        return [self.unpack(tree) for tree in trees]


def identifier(name):
    """A name as it may stand in a message."""
    return name[:80] if isinstance(name, str) and name.isidentifier() else "Unnamed"


def error_of(name, words):
    """An exception to be raised here for one that was raised there."""
    known = {kind.__name__: kind for kind in (ValueError, NotImplementedError)}
    kind = known.get(name) or type(identifier(name), (Exception,), {})
    return kind(str(words))


class Borrowed:
    """A function of the other side."""

    def __init__(self, wire, number):
        self.wire = wire
        self.number = number

    def __call__(self, *arguments):
        return self.wire.call(self.number, *arguments)

    def there(self, recipe, *values):
        """What a recipe of the other side makes of it."""
        return self.wire.call(recipe, self, *values)


class Wire:
    """One end: it calls what the other lends and, until an answer comes, serves what that calls."""

    def __init__(self, connection, lent):
        self.connection = connection
        self.lent = dict(lent)  # name or number -> function

    def call(self, target, *arguments):
        """A function of the other side; what it raises is raised here."""
        self.send(self.packed("call", arguments, target))
        while True:
            what, target, values = self.receive()
            if what == "call":
                self.serve(target, values)
            elif what == "raised":
                raise error_of(*values)
            else:
                return values[0]

    def serve(self, target, arguments):
        """Call a function of this side for the other."""
        try:
            message = self.packed("gave", [self.lent[target](*arguments)])
        except (Exception, SystemExit) as error:
            message = self.packed("raised", [type(error).__name__, str(error)[:1000]])
        except KeyboardInterrupt:  # a cell whose time is up; it goes on to end it
            self.send(self.packed("raised", ["TimeoutError", _("its time was up")]))
            raise
        self.send(message)

    def serve_one(self):
        """Wait for a call, and serve it."""
        what, target, values = self.receive()
        if what != "call":
            raise Lost
        self.serve(target, values)

    def lend(self, function):
        if isinstance(function, Borrowed):
            return [function.number, "yours"]
        number = len(self.lent)
        self.lent[number] = function
        return [number, "mine"]

    def borrow(self, content):
        number, whose = content
        if type(number) is not int:
            raise Lost
        return self.lent[number] if whose == "yours" else Borrowed(self, number)

    def packed(self, what, values, target=None):
        """A message as the bytes of its JSON and of its tensors."""
        packing = Packing(self.lend)
        tree = packing.each(values)
        try:
            text = json.dumps({"what": what, "target": target, "values": tree})
        except ValueError as error:  # a whole number of thousands of digits
            raise Unreadable(str(error)) from None
        return text.encode("utf-8", "backslashreplace"), save(packing.tensors)

    def send(self, message):
        try:
            for part in message:
                self.connection.send_bytes(part)
        except (OSError, ValueError):
            raise Lost from None

    def receive(self):
        """-> (call, gave or raised; what is called; values)"""
        try:
            message = json.loads(self.connection.recv_bytes(MOST_BYTES))
            tensors = load(self.connection.recv_bytes(MOST_BYTES))
            values = Unpacking(tensors, self.borrow).each(message["values"])
            return message["what"], message["target"], values
        except (OSError, EOFError, SafetensorError, RecursionError, MemoryError):
            raise Lost from None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise Lost from None

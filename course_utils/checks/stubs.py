"""What was not attempted yet: a function, a class or a cell that does nothing."""

import ast
import inspect
import textwrap
import types


def is_nothing(value):
    """Whether it is what a stub gives: None or an ellipsis."""
    return value is None or value is ...


def is_stub(function):
    """Whether a function or class does no more than a docstring, `...`, `pass` or `return None`."""
    function = inspect.unwrap(function)
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
        return does_nothing(definition.body)
    except (OSError, TypeError, SyntaxError, ValueError, AttributeError):
        return has_no_code(function)  # a lambda, or typed where no source is kept


def does_nothing(statements):
    """Whether all of these (ast) are `pass`, a constant, or a stub in turn."""
    return all(
        isinstance(statement, ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.Return) and gives_nothing(statement.value))
        or (isinstance(statement, DEFINITIONS) and does_nothing(statement.body))
        for statement in statements
    )


DEFINITIONS = ast.FunctionDef, ast.ClassDef


def has_no_code(function):
    """The same without a source: compiled to what Python makes of a stub, whatever that is here."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return False
    constants = [constant for constant in code.co_consts if constant != function.__doc__]
    return code.co_code in STUBS and all(map(is_nothing, constants))


def _documented():
    """A docstring, and nothing else."""


STUBS = {stub.__code__.co_code for stub in (lambda: None, lambda: ..., _documented)}


def is_blank(source):
    """Whether an exercise's cell stands as it was handed out: no body, no value, and a check."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return False
    return all(
        does_nothing([statement])
        or isinstance(statement, ast.Import | ast.ImportFrom)
        or (isinstance(statement, ast.Assign) and gives_nothing(statement.value))
        or (isinstance(statement, ast.Expr) and ast.unparse(statement).startswith("checks."))
        for statement in statements
    )


def gives_nothing(value):
    """Whether an expression (ast) is missing, `None`, `...`, or several of these."""
    if isinstance(value, ast.Tuple):
        return all(map(gives_nothing, value.elts))
    return value is None or (isinstance(value, ast.Constant) and is_nothing(value.value))

"""Where the course keeps its files; and files that are whole or absent, whatever happens.

They are read with suspicion: nothing in a file is executed, its size is looked at before it is
read, and its values have the types that they should have.
"""

import errno
import json
import os
import re
from dataclasses import fields
from pathlib import Path

from filelock import FileLock, Timeout

from course_utils.messages import N_, _

_package = Path(__file__).resolve().parent
_is_checkout = (_package.parent / "pyproject.toml").is_file()
CHECKOUT = _package.parent if _is_checkout else None  # None: from a wheel, as on Colab
PUBLISHED = _package / "published"  # the recorded study, shipped with the package
FORMULAS = tuple("=+-@\t\r\n＝＋－＠")  # what a spreadsheet's formula may begin with
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
FORMAT = "1"  # of checkpoints, states and records
# Bytes. A state of twelve layers has a header of 50,000; one of the largest model that the course
# knows takes 0.2 GB.
LONGEST_HEADER = 2**22
LARGEST_FILE = 2**33


def results():
    """The folder for runs, tables and figures: COURSE_RESULTS, else `results` in the checkout.

    Without a checkout, `results` here.
    """
    return Path(os.environ.get("COURSE_RESULTS") or (CHECKOUT or Path.cwd()) / "results")


class RunError(ValueError):
    """A record, checkpoint or state can't be used; the message says why."""


def write(path, content):
    """Write bytes so that the file is whole or absent, and still there after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name is an entry of the folder, which lies on the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_tensors(path, tensors, about):
    """Tensors and a dict about them as one safetensors file. tensors: name -> tensor"""
    # Imported here, because it loads torch: who asks for a folder's name can do without.
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = json.dumps({"format": FORMAT, **about})
    write(path, save(tensors, metadata={"course": content}))  # several would come in random order


ADVICE = N_("choose another file")


def read_header(path, kind, advice=ADVICE):
    """What a file of tensors says that it holds, before any of that is read.

    kind: what it should be, and advice: what to do where it isn't that, both for the RunError.
    -> (name -> (safetensors' name of its type, shape), dict about them)
    """
    if not path.is_file():
        raise RunError(_("there is no {kind} {path}", kind=_(kind), path=path))
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER or path.stat().st_size > LARGEST_FILE:
                raise ValueError(_("too large"))
            header = json.loads(file.read(length))
        about = json.loads(header.pop("__metadata__", {}).get("course", "{}"))
        claims = {name: (said["dtype"], tuple(said["shape"])) for name, said in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, error, advice) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise RunError(
            _(
                "{path} is not a {kind} of this course in format {format}: {advice}",
                path=path,
                kind=_(kind),
                format=FORMAT,
                advice=_(advice),
            )
        )
    return claims, about


def read_tensors(path, kind, advice=ADVICE):
    """-> (name -> tensor, dict about them). kind, advice, RunError: as read_header's."""
    from safetensors import SafetensorError
    from safetensors.torch import load  # and not safe_open, which takes a Ctrl-C for a damaged file

    _, about = read_header(path, kind, advice)
    try:
        return load(path.read_bytes()), about
    except (SafetensorError, OSError, ValueError, KeyError, MemoryError) as error:
        raise damaged(path, error, advice) from None


def damaged(path, error, advice):
    reason = str(error) or type(error).__name__
    return RunError(
        _(
            "{path} is damaged or not a safetensors file ({reason}): {advice}",
            path=path,
            reason=reason,
            advice=_(advice),
        )
    )


def fields_of(kind, values):
    """What a file says about a dataclass, as its arguments; a ValueError names what is wrong.

    Names that the dataclass lacks are left to it. A whole number may be written as 2.0.
    """
    if not isinstance(values, dict):
        raise ValueError(_("no settings, but {kind}", kind=type(values).__name__))
    types = {field.name: field.type for field in fields(kind)}
    return {
        name: of_type(types[name], value, name) if name in types else value
        for name, value in values.items()
    }


def of_type(kind, value, name):
    """The value as this type, if that is what it is; else a ValueError that names it."""
    is_number = type(value) in (int, float)
    try:
        if kind is float and is_number:
            return float(value)
        if kind is int and is_number and value == int(value):
            return int(value)
    except (OverflowError, ValueError):  # too large for a float; or no number, which int refuses
        pass
    if kind not in (int, float) and isinstance(value, kind):
        return value
    raise ValueError(_("{name} is {value!r:.40}", name=name, value=value))


def shown(name):
    """A file's name or a word as it can be written anywhere: bytes that are no UTF-8 as \\udcfc."""
    return os.fspath(name).encode(errors="backslashreplace").decode()


def lock(folder):
    """Hold a results folder for one process; a second one says that it waits, and waits."""
    guard = FileLock(folder / ".lock", is_singleton=True)  # one that holds it may ask again
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return guard.acquire(timeout=0)
    except Timeout:
        words = _(
            "Another process of the course is at work in {folder}: waiting for it to end.",
            folder=folder,
        )
        print(words, flush=True)
        return guard.acquire()
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        words = _(
            "no run can be kept in {folder} ({reason}): name another folder with --out, or in the "
            "variable COURSE_RESULTS",
            folder=folder,
            reason=error.strerror,
        )
        raise RunError(words) from None


def csv_bytes(table):
    """A table as a spreadsheet reads it: UTF-8 with its mark, and no cell that it would run.

    table: a DataFrame, or column -> cells.
    """
    import pandas as pd  # here, because it takes a second to load

    safe = {harmless(name): list(map(harmless, cells)) for name, cells in table.items()}
    # Python quotes the characters of a line's end: with \r among them no cell can begin a new line.
    text = pd.DataFrame(safe, dtype=object).to_csv(index=False, lineterminator="\r\n")
    return text.encode("utf-8-sig", "backslashreplace")


def harmless(cell):
    """The cell; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    formula = isinstance(cell, str) and cell.startswith(FORMULAS) and not NUMBER.fullmatch(cell)
    return f"'{cell}" if formula else cell


def as_it_was(cell):
    """A cell that was read, without the apostrophe that `harmless` gave it."""
    return cell[1:] if cell.startswith("'") and harmless(cell[1:]) == cell else cell

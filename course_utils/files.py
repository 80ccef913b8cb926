"""Where the course keeps its files; and files that are whole or absent, whatever happens.

Nothing in a file is executed.
"""

import json
import os
from pathlib import Path

from filelock import FileLock, Timeout

_package = Path(__file__).resolve().parent
_is_checkout = (_package.parent / "pyproject.toml").is_file()
CHECKOUT = _package.parent if _is_checkout else None  # None: from a wheel, as on Colab
PUBLISHED = _package / "published"  # the recorded study, shipped with the package
FORMAT = "1"  # of checkpoints, states and records


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


def read_tensors(path, kind):
    """-> (name -> tensor, dict about them). RunError if it is not what kind says in words."""
    from safetensors import SafetensorError
    from safetensors.torch import load  # and not safe_open, which takes a Ctrl-C for a damaged file

    if not path.is_file():
        raise RunError(f"there is no {kind} {path}")
    try:
        content = path.read_bytes()
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        about = json.loads(header.get("__metadata__", {}).get("course", "{}"))
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise RunError(
            f"{path} is damaged or not a safetensors file ({error}): delete it"
        ) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise RunError(f"{path} is not a {kind} of this course in format {FORMAT}")
    return tensors, about


def lock(folder):
    """Hold a results folder for one process; a second one says that it waits, and waits."""
    folder.mkdir(parents=True, exist_ok=True)
    guard = FileLock(folder / ".lock", is_singleton=True)  # one that holds it may ask again
    try:
        return guard.acquire(timeout=0)
    except Timeout:
        words = f"Another process of the course is at work in {folder}: waiting for it to end."
        print(words, flush=True)
        return guard.acquire()

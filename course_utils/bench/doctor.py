"""What is on this machine, what it means for the course, and what to do about it: `course doctor`.

Nothing is changed. Each examination yields findings; one that would stop a lesson says so.
"""

import contextlib
import io
import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import torch

from course_utils import corpus, files, profiles
from course_utils.figures import drawing

NAME = "shakespeare-layer-by-layer"
LIGHT = {"ipywidgets": "7.7.1", "anywidget": "0.9.21"}  # Colab's, the oldest that were tried
ROOM = 100  # MB that a lesson's runs need; a whole experiment takes ten times as many
COMPILERS = ("c++", "g++", "clang++", "cl")


class Finding(NamedTuple):
    """One line on the screen, and under it what to do, where there is something to do."""

    about: str
    said: str
    advice: str = ""
    stops: bool = False  # whether a lesson would fail


def examine(text=None):
    """All findings, in the order in which they matter. text: the path of a text of one's own."""
    for look in (python, packages, pins, pytorch, steps, compiler, widgets):
        yield from look()
    yield from texts(text)
    yield from disk()
    yield from fonts()


def report(findings):
    """The screen: a finding a line, advice under it."""
    lines = []
    for about, said, advice, stops in findings:
        lines.append(f"{about:9}{said}")
        if advice:
            lines.append(f"{'STOPS' if stops else '':>7}  {advice}")
    return "\n".join(lines)


# --- what is installed ---------------------------------------------------------------------------
def python():
    yield Finding("python", f"{platform.python_version()} on {platform.platform(terse=True)}")


def installed(package):
    """The version, or None."""
    with contextlib.suppress(PackageNotFoundError):
        return version(package)


def older(found, bound):
    """Whether the version comes before the bound: "3.9.2" before "3.10", and "2.13.0+cpu" not."""
    numbers = [re.findall(r"\d+", text.partition("+")[0])[:3] for text in (found, bound)]
    first, second = ([*map(int, some), 0, 0][:3] for some in numbers)
    return first < second


def bounds():
    """The oldest versions that the course declares, as (package, version, extra or "")."""
    with contextlib.suppress(PackageNotFoundError):
        for line in requires(NAME) or ():
            if found := re.match(r"([\w.-]+)\s*>=\s*([\w.]+)", line):
                extra = re.search(r"extra\s*==\s*['\"](\w+)", line)
                yield found[1], found[2], extra[1] if extra else ""


def packages():
    """What every lesson needs; the widgets have an examination of their own."""
    needed = {name: bound for name, bound, extra in bounds() if not extra}
    missing = [name for name in needed if not installed(name) and name != "zhplot"]
    old = [
        f"{name} {installed(name)} is older than {bound}"
        for name, bound in needed.items()
        if installed(name) and older(installed(name), bound)
    ]
    wrong = [f"{name} is missing" for name in missing] + old
    if wrong:
        names = " ".join(f"'{n}>={needed[n]}'" for n in needed if any(n in w for w in wrong))
        yield Finding("packages", ", ".join(wrong), f"pip install -U {names}", stops=True)
    else:
        yield Finding("packages", f"{len(needed)} needed, {len(needed)} there and new enough")


def pins():
    """How far what is installed is from the versions behind the stored outputs."""
    file = (files.CHECKOUT or Path()) / "constraints.txt"
    if not file.is_file():
        return
    pinned = re.findall(r"^([\w.-]+)==(\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    there = {name: installed(name) for name, _ in pinned}
    other = [
        f"{name} {there[name]} (stored outputs: {wanted})"
        for name, wanted in pinned
        if there[name] and there[name].partition("+")[0] != wanted
    ]
    same = sum(there[name] is not None for name, _ in pinned) - len(other)
    said = f"{same} packages as behind the stored outputs"
    if other:
        more = f", and {len(other) - 2} more" if len(other) > 2 else ""
        said += f"; others: {', '.join(other[:2])}{more}"
    yield Finding("pins", said)


# --- where models run ----------------------------------------------------------------------------
def pytorch():
    device = profiles.device()
    where = f"{device} ({profiles.cores()} cores)"
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        where = f"{torch.cuda.get_device_name()}, bf16: {'yes' if bf16 else 'no, so float32'}"
    profile = profiles.named().name
    yield Finding("torch", f"{torch.__version__}; models run on {where}; profile {profile}")


def steps():
    """Two training steps on each device, beside the same in double precision."""
    devices = [torch.device("cpu")]
    devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    for device in devices:
        error = profiles.step_error(device)
        said = f"two training steps on {device} end {error:.0e} of their way from the exact ones"
        if error <= profiles.WRONG_STEP:
            yield Finding("steps", said)
        elif device.type == "mps":
            advice = "the lessons take the CPU; a newer PyTorch may mend it: pip install -U torch"
            yield Finding("steps", said, advice)
        else:
            advice = "hide this device with CUDA_VISIBLE_DEVICES='', or install PyTorch anew"
            yield Finding("steps", said, advice, stops=True)


def compiler():
    """torch.compile writes C++ for the CPU and a stub in C for a GPU's kernels."""
    named = os.environ.get("CXX")
    found = next(filter(shutil.which, [named] if named else COMPILERS), None)
    if found:
        yield Finding("compiler", f"{found}: --compile works where it pays, on a GPU")
    else:
        advice = "only --compile needs one: apt install g++, or Xcode's command line tools"
        yield Finding("compiler", "none: models train without torch.compile", advice)


# --- what a reader sees --------------------------------------------------------------------------
def widgets():
    """Sliders and sampler: the two packages, and the front ends that would show them."""
    missing = [name for name in LIGHT if not installed(name)]
    if missing:
        advice = f"sliders stand still and the sampler is away: pip install {' '.join(missing)}"
        yield Finding("widgets", f"without {' and '.join(missing)}", advice)
        return
    said = ", ".join(f"{name} {installed(name)}" for name in LIGHT)
    if any(older(installed(name), bound) for name, bound in LIGHT.items()):
        names = " ".join(f"'{name}>={bound}'" for name, bound in LIGHT.items())
        yield Finding("widgets", said, f"too old for lesson 6: pip install -U {names}", stops=True)
        return
    yield Finding("widgets", f"{said}; {front_ends() or 'in Colab, Kaggle or VS Code'}", blind())


def front_ends():
    """The front ends that are installed here, each with the part of it that shows widgets."""
    pairs = (("jupyterlab", "jupyterlab_widgets"), ("notebook", "widgetsnbextension"))
    shown = [f"{a} {installed(a)} with {b} {installed(b)}" for a, b in pairs if installed(a)]
    return ", ".join(shown)


def blind():
    """What to do where a front end that is here would not show what moves; "" where all do."""
    if installed("jupyterlab") and not installed("jupyterlab_widgets"):
        return "JupyterLab shows no widgets without: pip install jupyterlab_widgets"
    notebook = installed("notebook")
    extension = installed("widgetsnbextension")
    classic = notebook and extension and older(notebook, "7")
    if classic and older("3.6.6", extension) and older(extension, "4"):
        return "the classic Notebook leaves the sliders' picture blank: use JupyterLab instead"
    return ""


def texts(named=None):
    """Which text the lessons would find, and files that they would pass over."""
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            text = corpus.load(named)
    except corpus.CorpusError as error:
        yield Finding("corpus", "none", str(error), stops=True)
        return
    if text.is_real:
        said = f"{text.name} from {text.source}, sha256 {text.sha256[:8]}… as it should be"
    else:
        said = f"{text.name} from {text.source}, sha256 {text.sha256[:8]}…"
    advice = " ".join(complaints.getvalue().split())
    if "Not used" in advice:
        advice += " Delete that file: the course will fetch the right one."
    yield Finding("corpus", said, advice)


def disk():
    """Whether runs can be kept: room, and the right to write."""
    folder = files.results().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e6
    said = f"{free / 1e3:.1f} GB free for results"
    if not os.access(there, os.W_OK):
        advice = f"{folder} can't be written: name another folder in COURSE_RESULTS"
        yield Finding("disk", said, advice, stops=True)
    elif free < ROOM:
        advice = (
            f"a lesson's runs need {ROOM} MB: free some, or name another disk in COURSE_RESULTS"
        )
        yield Finding("disk", said, advice, stops=True)
    elif free < 10 * ROOM:
        yield Finding("disk", said, f"`course run` may need more: {10 * ROOM / 1e3:.0f} GB")
    else:
        yield Finding("disk", said)


def fonts():
    """The font of the Chinese figures; the lessons' own are in English."""
    try:
        yield Finding("fonts", f"{drawing.fonts('chinese')[0]}, for the Chinese figures")
    except (ModuleNotFoundError, FileNotFoundError):
        advice = "`course run` draws Chinese figures, and needs it: pip install zhplot"
        yield Finding("fonts", "none with Chinese signs", advice)


def main_sentence(findings):
    """What would stop a lesson first, as one sentence; "" where nothing would."""
    for about, said, advice, stops in findings:
        if stops:
            return f"a lesson would fail here: {about}: {said}; {advice}"
    return ""

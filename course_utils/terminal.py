"""What is printed is read, never obeyed: no escape code in a prompt, a text or a file's name reaches a terminal."""

OBEYED = {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - set(b"\t\n")
SHOWN = {code: chr(code).encode("unicode_escape").decode() for code in OBEYED}


def plain(text):
    """The text, its control characters and turns of direction shown as Python writes them, "\\x1b"."""
    return str(text).translate(SHOWN)


class Plain:
    """A stream to which everything is written in plain text."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        return self.stream.write(plain(text))

    def __getattr__(self, name):
        return getattr(self.stream, name)

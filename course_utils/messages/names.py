"""Names that records keep in English, as a reader sees them: of arms, texts, and their notes."""

import re

from course_utils.messages import N_, reader, speaker

NAMES = {  # of baselines, arms and texts, and of the lines in figures of the lessons
    N_("uniform"),
    N_("unigram"),
    N_("bigram"),
    N_("1-gram"),
    N_("2-gram"),
    N_("3-gram"),
    N_("4-gram"),
    N_("5-gram"),
    N_("6-gram"),
    N_("7-gram"),
    N_("8-gram"),
    N_("9-gram"),
    N_("human reference"),
    N_("training at first"),
    N_("no positions"),
    N_("learned positions"),
    N_("sinusoidal positions"),
    N_("rotary positions"),
    N_("LayerNorm before"),
    N_("LayerNorm after"),
    N_("RMSNorm before"),
    N_("no norm"),
    N_("squared ReLU"),
    N_("residuals"),
    N_("no residuals"),
    N_("tied embeddings"),
    N_("two embeddings"),
    N_("no QK-norm"),
    N_("constant rate"),
    N_("falling over the second half"),
    N_("falling all the time"),
    N_("no warm-up"),
    N_("plain"),
    N_("plain protocol"),
    N_("early stopping"),
    N_("fair rate"),
    N_("fair rate with early stopping"),
    N_("equal parameters"),
    N_("equal time"),
    N_("frames"),
    N_("lengths of training"),
    N_("draws of whole plays"),
    N_("1 million characters"),
    N_("2 million characters"),
    N_("other weights"),
    N_("other batches"),
    N_("unchanged"),
    N_("unchanged, other seeds"),
    N_("all steps done"),
    N_("step"),
    N_("trained on"),
    N_("held out"),
    N_("temperature"),
    N_("before"),
    N_("repetition"),
    N_("known words"),
    N_("human, repetition"),
    N_("human, known words"),
    N_("practice corpus"),
    N_("the user's cache"),
    N_("a download"),
    N_("the course itself"),
    N_("Practice text, written by the course's own model: not Shakespeare."),
}
PATTERNS = {  # parts of a name that hold a number or another name
    r"^(\d+) layers?\b": N_(r"\1 layers"),
    r"^(\d+) heads?$": N_(r"\1 heads"),
    r"^context (\d+)\b": N_(r"context \1"),
    r"^batch x (.+)$": N_(r"batch x \1"),
    r"^feed-forward x (.+)$": N_(r"feed-forward x \1"),
    r", width (\d+)$": N_(r", width \1"),
    r", rate ([\d.]+)$": N_(r", rate \1"),
    r", (\d+) steps$": N_(r", \1 steps"),
    r", (.+) of the text$": N_(r", \1 of the text"),
    r"^([\d,]+) steps$": N_(r"\1 steps"),
    r"^temperature ([\d.]+)": N_(r"temperature \1"),
    r"^all (\d+) plays$": N_(r"all \1 plays"),
    r" \(another task\)$": N_(" (another task)"),
    r"^Which learning rate suits which depth in ([\d,]+) steps\?$": N_(
        r"Which learning rate suits which depth in \1 steps?"
    ),
    r"^What does depth buy in ([\d,]+) steps, each depth at its own rate\?$": N_(
        r"What does depth buy in \1 steps, each depth at its own rate?"
    ),
    r"^no improvement in (\d+) evaluations$": N_(r"no improvement in \1 evaluations"),
    r"^Trained on (.+), not on Tiny Shakespeare\.$": N_(r"Trained on \1, not on Tiny Shakespeare."),
}


JOINTS = (N_(": "), N_(" - "))  # between the names of a frame and of the two arms that it compares


def translated(name, language=None):
    """The name in this language, else the reader's: "2 layers, 300 steps" -> "2 层，300 步"."""
    language = language or reader()
    if language == "english":
        return name
    say = speaker(language)
    if name in NAMES:
        return say(name)
    for joint in JOINTS:
        if joint in name:
            return say(joint).join(translated(part, language) for part in name.split(joint))
    for pattern, words in PATTERNS.items():
        name = re.sub(pattern, say(words), name)
    return name

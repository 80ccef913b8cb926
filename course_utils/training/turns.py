"""Who is to be compared takes turns, so that all meet the same moods of the machine."""

from tqdm import tqdm

from course_utils.messages import _


def in_turn(contenders, rounds):
    """Yield (round, name, contender), round after round; round 0 is there to warm up.

    contenders: name -> whatever is timed
    """
    turns = [(n, *turn) for n in range(rounds + 1) for turn in contenders.items()]
    bar = tqdm(turns, desc=_("timing"), unit=_("counted|turn"), leave=False, disable=None)
    for number, name, contender in bar:
        bar.set_postfix_str(name)
        yield number, name, contender

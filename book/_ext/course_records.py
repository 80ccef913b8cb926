"""The table of records and its rules, as course_utils.research.entries has them."""

import statistics

import pandas as pd
from course_bench import machine, seconds, table
from scipy import stats

from course_utils.messages import N_, _, ngettext
from course_utils.research import entries
from course_utils.research.entries import LEAST_SEEDS, MARGIN, MOST_PARAMETERS

MANY = 20  # seeds, to say what more of them are worth


def rules():
    """What an entry has to keep, and how its row is made: a list."""
    by_luck = {
        name: stats.t.sf(MARGIN, n - 1) for name, n in (("few", LEAST_SEEDS), ("many", MANY))
    }
    said = (
        _(
            "**The loss** is exact: over the whole validation split, without dropout, at the "
            "entry's own context. A longer context is another task, so rows are ordered by it; "
            "compare those of one context."
        ),
        _("**The size**: at most {most:,} parameters.", most=MOST_PARAMETERS),
        _(
            "**The seeds**: at least {least}, one after the other. The first is drawn from the "
            "entry's name; how many there are is settled before they run, and none is left out.",
            least=LEAST_SEEDS,
        ),
        _(
            "**The claim** holds if (claim − mean) · √n ≥ {margin} · SD, over the losses of n "
            "seeds. If the true mean were the claim itself, so much would come by luck in "
            "{few:.1%} of tries with {least} seeds, in {many:.1%} with {seeds}.",
            margin=MARGIN,
            least=LEAST_SEEDS,
            seeds=MANY,
            **by_luck,
        ),
        _(
            "**The seconds**: training with its evaluations, the median of the seeds; and all "
            "that a seed takes, its set-up and its teachers with it, of the slowest, which "
            "usually is the one that compiles."
        ),
    )
    yield "\n".join(f"* {rule}" for rule in said)


def records():
    """A row for each entry that keeps the rules; what else is recorded, with the reason."""
    found = sorted(entries.load_all(), key=lambda r: (r.entry.model.context_length, r.mean))
    rows = [row(result) for result in found if not result.outside()]
    if rows:
        yield table(pd.DataFrame(rows), words=1)
    else:
        yield _("No entry is recorded yet.")
    others = [result for result in found if result.outside()]
    if others:
        yield _("Tried, and not in the table:")
        yield "\n".join(
            "* " + _("{entry}: {reason}.", entry=named(result), reason=result.outside())
            for result in others
        )


def named(result):
    """The entry, with its teachers, and the machine."""
    name, n = result.entry.name, result.entry.teachers
    if n:
        name = ngettext("{name} ({n} teacher)", "{name} ({n} teachers)", n, name=name)
    return _("{name}; {machine}", name=name, machine=machine(result.environment))


def row(result):
    entry = result.entry
    training = statistics.median(trial.training_s for trial in result.trials)
    slowest = max(trial.all_s for trial in result.trials)
    return {
        N_("entry"): named(result),
        N_("loss"): f"{result.mean:.4f}\u00a0±\u00a0{result.sd:.4f}",
        N_("worst"): f"{max(result.losses):.4f}",
        N_("context"): f"{entry.model.context_length:,}",
        N_("parameters"): f"{entry.parameters / 1e6:.2f} M",
        N_("seeds"): len(result.trials),
        N_("training / all (s)"): f"{seconds(training)} / {seconds(slowest)}",
    }


PASSAGES = {"records": records, "record-rules": rules}

"""The helper package of the course: which part answers which question, in reading order.

What everybody meets:
    corpus      which text do we learn from, and is it the right one?
    profiles    how much work suits this machine?
    files       where do results lie, and how are they written whole or not at all?
    lessons     what did I build in lesson N? (generated from the notebooks)
    figures     how does it look? one function a kind of picture
    widgets     what can I move?
    checks      is my answer to exercise N.M right?

A question of your own:
    training    how does a model become a trained one, on disk?
    generation  what does it write, how fast, and what is that worth?
    research    which arm is better, and how sure is that?

For the few:
    classroom   how do lessons go out and come back graded?
    bench       how fast is this, beside others and beside the machine's limits? what is here?
    messages    how is it said in the reader's language?
    published   what was recorded: runs, weights, practice text
    commands    what does each subcommand of `course` do? (`__main__` has the options)
"""

import os

# Threads that wait for one another go to sleep soon: awake for as long as is the default, they
# would keep the cores of a busy machine from the very threads that they wait for; asleep at once,
# they would have to be woken hundreds of times a step. Read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # looks, some 0.05 ms: PyTorch on Linux
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # ms: on macOS and Windows

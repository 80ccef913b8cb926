#!/usr/bin/env bash
# Ctrl-C while weights are loaded comes out as a ValueError: the file looks damaged, and the program goes on.
#
# Software: safetensors 0.8.0 with PyTorch 2.13.0. Input: a good file, and one SIGINT during load_file.
# Python's way is that Ctrl-C raises KeyboardInterrupt, which no `except Exception` catches. Here many interrupts
# arrive while torch asks a storage, which is a Python object, for its length: the KeyboardInterrupt is dropped, not
# even kept as the cause, and what comes out is
#
#   ValueError: could not determine the shape of object type 'torch.storage.UntypedStorage'
#
# Seen: of 400 interrupts spread over the time of one load, 100 to 150 came out so. safetensors.numpy drops none.
#
# What follows: whoever turns a ValueError from load_file into "this file is damaged" blames, and may delete, a good
# file because somebody pressed Ctrl-C. Read again before you say so, or load with the interrupt put off.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
# On Linux torch is a GB, unless pip knows PyTorch's index of CPU builds.
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 torch==2.13.0 numpy==2.4.6

"$folder/venv/bin/python" - "$folder/weights.safetensors" <<'PYTHON'
import os
import signal
import sys
import time
from collections import Counter

import torch
from safetensors.torch import load_file, save_file

path = sys.argv[1]
save_file({f"layer.{i}": torch.zeros(64, 64) for i in range(400)}, path)
signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))  # Ctrl-C after a while
signal.signal(signal.SIGINT, signal.default_int_handler)
load_file(path)
began = time.perf_counter()
load_file(path)
whole = time.perf_counter() - began

came_out = Counter()
for i in range(1, 401):
    try:
        signal.setitimer(signal.ITIMER_REAL, whole * i / 400)
        try:
            load_file(path)
            came_out["loaded before the signal"] += 1
        except Exception as error:
            assert error.__cause__ is None
            came_out[f"{type(error).__name__}: {error}"] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        came_out["KeyboardInterrupt"] += 1
for outcome, count in came_out.most_common():
    print(f"{count:4} {outcome}")
raise SystemExit(not any(outcome.startswith("ValueError: could not determine the shape") for outcome in came_out))
PYTHON

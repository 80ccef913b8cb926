#!/usr/bin/env bash
# The same tensors with the same metadata, saved twice, are two different files.
#
# Software: safetensors 0.8.0 (numpy 2.4.6). Input: one small array and a dict of eight strings.
# The format is known for files whose hash tells whether two models are one. That holds only without metadata:
# its entries are written in the random order of a Rust HashMap, anew in every call, even within one process.
# Seen: upstream's issue 584 (2025, open).
#
#   20 saves without metadata:            1 file
#   20 saves with eight metadata entries: 20 files
#
# What follows: one entry that holds everything (as JSON with sorted keys) keeps the bytes the same; otherwise hash
# the tensors, not the file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import json

import numpy as np
from safetensors.numpy import save

tensors = {"weight": np.arange(4.0)}
settings = {key: key for key in "abcdefgh"}
cases = {"none": None, "eight entries": settings, "one entry": {"all": json.dumps(settings, sort_keys=True)}}
files = {name: len({save(tensors, metadata) for _ in range(20)}) for name, metadata in cases.items()}
for name, count in files.items():
    print(f"20 saves, metadata: {name}: {count} different files")
raise SystemExit(not (files["none"] == files["one entry"] == 1 and files["eight entries"] > 10))
PYTHON

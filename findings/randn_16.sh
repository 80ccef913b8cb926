#!/usr/bin/env bash
# One more number, and all the others change: torch.randn(15) and torch.randn(16) share none.
#
# Software: PyTorch 2.13.0, CPU. Input: one seed, two sizes.
# A reader expects the same seed to give one stream, of which randn(15) is the beginning, as torch.rand and NumPy
# do it. From 16 elements on, CPU tensors are filled by another method, in blocks of 16, and where the size is
# no multiple of 16 the *last* 16 elements are drawn once more: randn(17) has one number of randn(16), its first.
# So an embedding of 16 rows of one column begins otherwise than one of 15, and float and double differ too.
# Seen: upstream's issues 80202 (2022, open) and 79703.
#
#   torch.rand(15) and the first 15 of torch.rand(16):  15 of 15 equal
#   torch.randn(15) and the first 15 of torch.randn(16): 0 of 15 equal
#   torch.randn(16) and the first 16 of torch.randn(17): 1 of 16 equal
#   torch.randn(16) and the first 16 of torch.randn(32): 16 of 16 equal
#
# What follows: a model with one more character is another model from its first weight on; to compare models of
# two sizes, give each tensor a generator of its own, and don't count on common random numbers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 # a GB on Linux, unless pip knows PyTorch's index of CPU builds

"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch


def shared(draw, few, many):
    """How many of the first `few` numbers are equal when one seed draws `few`, and `many`."""
    a = draw(few, generator=torch.Generator().manual_seed(0))
    b = draw(many, generator=torch.Generator().manual_seed(0))
    return (a == b[:few]).sum().item()


seen = {}
for draw, few, many in ((torch.rand, 15, 16), (torch.randn, 15, 16), (torch.randn, 16, 17), (torch.randn, 16, 32)):
    seen[draw.__name__, few, many] = shared(draw, few, many)
    print(f"torch.{draw.__name__}({few}) and the first {few} of {many}: {seen[draw.__name__, few, many]} equal")
raise SystemExit(list(seen.values()) != [15, 0, 1, 16])
PYTHON

"""5 · Ablation: what do the layers buy?.

GENERATED from notebooks/05_ablation.py by tools/export.py: change it there.
"""

import itertools

import torch


def sign_flip_p(differences):
    """Two-sided p-value of paired differences: the share of sign flips at least as extreme as what was seen.

    differences: n numbers, one a seed; all 2**n flips are counted. Fisher (1935), The Design of Experiments.
    """
    d = torch.tensor(differences, dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((1.0, -1.0), repeat=len(d))), dtype=torch.float64)
    return ((signs @ d).abs() >= d.sum().abs() - 1e-12).double().mean().item()

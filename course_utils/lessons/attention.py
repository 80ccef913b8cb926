"""2 · Attention: choosing whom to listen to.

GENERATED from notebooks/02_attention.py by tools/export.py: change it there.
"""

import math

import torch
from torch.nn import functional as F


def attention_weights(q, k):
    """How much each position listens to itself and each earlier one; rows sum to 1.

    q, k: (B, H, T, D) float -> (B, H, T, T) float. softmax(q kᵀ / √D) under a causal mask:
    Vaswani et al. (2017), equation 1 and section 3.2.3.
    """
    T = q.shape[-2]
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(diagonal=1)
    return scores.masked_fill(future, -math.inf).softmax(dim=-1)


def split_heads(x, n_heads):
    """(B, T, C) -> (B, H, T, D): each head gets its own D = C / H channels."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def merge_heads(x):
    """(B, H, T, D) -> (B, T, C): the heads' channels side by side again."""
    return x.transpose(1, 2).flatten(-2)


def causal_attention(q, k, v, dropout=0.0):
    """Each position's weighted mean of the values that it may see.

    q: (B, H, Tq, D), k, v: (B, H, T, D) float -> (B, H, Tq, D). Where Tq < T the queries
    are the last Tq positions (a key-value cache). dropout: share of weights set to 0.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    attend = F.scaled_dot_product_attention
    if queries in (1, keys):  # nothing to hide from one query; from all, the triangle
        return attend(q, k, v, dropout_p=dropout, is_causal=queries > 1)
    ones = torch.ones(queries, keys, dtype=torch.bool, device=q.device)
    seen = ones.tril(diagonal=keys - queries)
    return attend(q, k, v, attn_mask=seen, dropout_p=dropout)

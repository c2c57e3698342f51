"""A small GPT over bytes, plain enough that every derivative exists and parameter names say what they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SYMBOLS = 256


class GPT(nn.Module):
    """A pre-norm transformer decoder with learned positions and an untied head.

    Parameters are named ``embedding.weight``, ``position.weight``, ``blocks.0.attention.qkv.weight``,
    ``blocks.0.attention.out.weight``, ``blocks.0.mlp.up.weight``, ``blocks.0.mlp.down.weight``, ``head.weight``
    and so on, so that a method can route by name. Source: A. Radford et al., "Language Models are Unsupervised
    Multitask Learners", 2019 (GPT-2), without dropout and biases; weights start with variance ``1 / fan_in`` (divided
    by the number of layers that add to the residual stream where they do), so that 300 steps suffice to learn.

    Args:
        width: Length of the vector of one position; a multiple of ``heads``.
        depth: Number of blocks.
        heads: Attention heads in a block.
        context: Positions that can be attended to.
    """

    def __init__(self, width: int, depth: int, heads: int, context: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, context) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SYMBOLS, bias=False)
        for name, parameter in self.named_parameters():
            if name in ("embedding.weight", "position.weight"):
                nn.init.normal_(parameter, std=0.5)
            elif parameter.ndim == 2:
                added = 2 * depth if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(parameter, std=1 / math.sqrt(added * parameter.shape[1]))

    def forward(self, symbols: Tensor) -> Tensor:
        """Return logits ``[batch, length, 256]`` of the next symbol for symbols ``[batch, length]``."""
        x = self.embedding(symbols) + self.position.weight[: symbols.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and beside an identity. Arguments as in `GPT`."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, context)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, length, width]`` to the same shape."""
        x = x + self.attention(self.attention_norm(x))
        mapped: Tensor = x + self.mlp(self.mlp_norm(x))
        return mapped


class Attention(nn.Module):
    """Causal self-attention, written out: the fused kernels have no second derivative. Arguments as in `GPT`."""

    mask: Tensor

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        future = torch.full((context, context), -math.inf).triu(1)
        self.register_buffer("mask", future, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, length, width]`` to the same shape."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.mask[:length, :length]
        mixed = scores.softmax(dim=-1) @ v
        mapped: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return mapped


class MLP(nn.Module):
    """A perceptron with one hidden layer, four times as wide as ``width``, and GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., width]`` to the same shape."""
        mapped: Tensor = self.down(nn.functional.gelu(self.up(x)))
        return mapped

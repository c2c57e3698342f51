"""Forests in the graph of a sparse symmetric matrix: choosing one, and solving with one, compiled by numba.

Import this module where it is needed. Signatures are explicit and compiled code is kept on disk.
"""

from __future__ import annotations

import numba
import numpy as np


@numba.njit("i8(i8[::1], i8)", cache=True, nogil=True)
def root(parent, i):
    """Return the representative of a set, and shorten the way to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit("void(i8[::1], i8[::1], i8[::1], i8, b1, b1[::1])", cache=True, nogil=True)
def choose(indptr, indices, order, limit, independent, chosen):
    """Mark, in an order, every node that closes no cycle among the marked ones, up to a number of nodes.

    With ``independent``, every node without a marked neighbour.
    """
    parent = np.arange(chosen.size)
    count = 0
    for node in order:
        if count >= limit:
            break
        fits = True
        start, end = indptr[node], indptr[node + 1]
        for t in range(start, end):
            other = indices[t]
            if other == node or not chosen[other]:
                continue
            if independent:
                fits = False
                break
            mine = root(parent, other)
            for s in range(start, t):
                before = indices[s]
                if before != node and chosen[before] and root(parent, before) == mine:
                    fits = False
                    break
            if not fits:
                break
        if fits:
            chosen[node] = True
            count += 1
            for t in range(start, end):
                other = indices[t]
                if other != node and chosen[other]:
                    parent[root(parent, other)] = root(parent, node)


@numba.njit("b1(i8[::1], i8[::1], f8[::1], b1[::1], f8[::1])", cache=True, nogil=True)
def solve(indptr, indices, data, chosen, rhs):
    """Overwrite the marked entries of ``rhs`` by the solution of the marked rows and columns, which form a forest.

    Messages go from the leaves to the roots, solutions back: Gaussian elimination without fill. Says whether every
    pivot was positive.
    """
    n = chosen.size
    above = np.full(n, -1, np.int64)
    link = np.zeros(n)
    pivot = np.zeros(n)
    seen = np.zeros(n, np.bool_)
    order = np.empty(n, np.int64)
    count = 0
    for first in range(n):
        if not chosen[first] or seen[first]:
            continue
        seen[first] = True
        order[count] = first
        head = count
        count += 1
        while head < count:
            node = order[head]
            head += 1
            for t in range(indptr[node], indptr[node + 1]):
                other = indices[t]
                if other == node:
                    pivot[node] += data[t]
                elif chosen[other] and not seen[other]:
                    seen[other] = True
                    above[other] = node
                    link[other] = data[t]
                    order[count] = other
                    count += 1
    for k in range(count - 1, -1, -1):
        node = order[k]
        if not pivot[node] > 0.0:
            return False
        up = above[node]
        if up >= 0:
            share = link[node] / pivot[node]
            pivot[up] -= share * link[node]
            rhs[up] -= share * rhs[node]
    for k in range(count):
        node = order[k]
        up = above[node]
        if up >= 0:
            rhs[node] = (rhs[node] - link[node] * rhs[up]) / pivot[node]
        else:
            rhs[node] /= pivot[node]
    return True

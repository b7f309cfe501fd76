"""Thin-plate spline: the smoothest map of the plane that takes some points to given values.

Source: F. Bookstein, "Principal Warps: Thin-Plate Splines and the Decomposition of Deformations", TPAMI 1989; its
smoothing is G. Wahba's, "Spline Models for Observational Data", 1990.
"""

from __future__ import annotations

import torch
from torch import Tensor


def thin_plate_spline(centres: Tensor, values: Tensor, places: Tensor, smoothing: float, unit: float = 1.0) -> Tensor:
    """(N, V) spline through (C, V) values at (C, 2) centres, at (N, 2) places; float32, on the CPU.

    Args:
        centres: where values are given.
        values: at the centres, in any unit.
        places: where the spline is wanted.
        smoothing: on the kernel's diagonal: how little a bend may cost; 0 goes through all values.
        unit: length that distances are counted in.
    """
    middle, count = centres.mean(0), len(centres)
    c, n = ((points - middle) / unit for points in (centres, places))
    system = torch.zeros(count + 3, count + 3, dtype=torch.float64)
    system[:count, :count] = _kernel(c, c).double() + smoothing * torch.eye(count)
    system[:count, count], system[:count, count + 1 :] = 1, c
    system[count, :count], system[count + 1 :, :count] = 1, c.T
    padded = torch.cat([values, torch.zeros(3, values.shape[1])]).double()
    weights = torch.linalg.solve(system, padded).float()
    return _kernel(n, c) @ weights[:count] + weights[count] + n @ weights[count + 1 :]


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) r² log r² of the distances between (A, 2) and (B, 2) points."""
    # as a product, r² takes a third of the time of differences, and errs by a millionth
    squares = a.square().sum(1, keepdim=True), b.square().sum(1, keepdim=True)
    left, right = (torch.cat(columns, 1) for columns in (
        (-2 * a, squares[0], torch.ones_like(squares[0])), (b, torch.ones_like(squares[1]), squares[1])))  # fmt: skip
    r2 = (left @ right.T).clamp_(min=1e-12)
    return r2.log().mul_(r2)

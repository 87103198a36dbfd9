"""Starts of fits in Torch: the templates that stand out most, peak by peak."""

from typing import Any

import numpy as np

from ndtomo_dask.kernels.fitting.batched_model import Batch
from ndtomo_dask.kernels.fitting.peak_shapes import GAUSSIAN_WIDTH
from ndtomo_dask.kernels.fitting.starts import HALF_STEP

Tensor = Any
CLEAR = 1.2
"""By how much the best template must exceed the significance, so that rounding does not decide."""


def set_starts(torch: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the free parameters to start from, and which spectra have a clear peak."""
    problem, templates = batch.problem, batch.problem.templates
    basis = batch.tensor(templates.basis)
    table = np.zeros((templates.position.size, problem.t.size))
    for k, begin in enumerate(templates.first):
        row = templates.values[templates.offset[k] : templates.offset[k + 1]]
        table[k, begin : begin + row.size] = row
    rows, norm = batch.tensor(table), batch.tensor(templates.norm)
    y = batch.y - (batch.y @ basis.T) @ basis
    noise = _noise(torch, y)
    peaks = problem.codes.size
    low, high, given = _places(torch, batch)
    sought = torch.as_tensor(problem.sought, device=y.device)
    chosen, heights, scores = _match(torch, batch, y, rows, norm, basis, low, high, None)
    fwhm = batch.tensor(templates.fwhm)
    width = fwhm[chosen]
    if peaks > 1:
        width = width[:, sought].log().mean(dim=1, keepdim=True).exp().expand(-1, peaks)
        chosen, heights, scores = _match(
            torch, batch, y, rows, norm, basis, low, high, width[:, :1]
        )
    place = torch.where(given.isfinite(), given, batch.tensor(templates.position)[chosen])
    clear = scores.amax(dim=1) > CLEAR * max(problem.significance, 0.0) * noise
    clear &= (scores[:, sought] > 0).all(dim=1)
    return batch.start(place, width, heights * width * GAUSSIAN_WIDTH), clear


def _noise(torch: Any, y: Tensor) -> Tensor:
    bend = (y[:, :-2] - 2 * y[:, 1:-1] + y[:, 2:]).abs()
    robust = 1.4826 * bend.median(dim=1).values / 6**0.5
    rms = (bend**2).mean(dim=1).sqrt() / 6**0.5
    return torch.where(robust > 1e-6 * rms, robust, rms)


def _places(torch: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Where each peak may be, and where it is said to begin, in units of t."""
    problem = batch.problem
    place = problem.first[:-1] + 1
    low, high = batch.least[:, place], batch.most[:, place]
    given = batch.given[:, place]
    known = given.isfinite()
    return torch.where(known, given, low), torch.where(known, given, high), given


def _match(
    torch: Any, batch: Batch, y: Tensor, rows: Tensor, norm: Tensor, basis: Tensor, low: Tensor,
    high: Tensor, width: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Choose the template of the strongest peak, take it away, and so on."""
    templates, peaks = batch.problem.templates, batch.problem.codes.size
    owner = torch.as_tensor(np.repeat(np.arange(peaks), np.diff(templates.peak)), device=y.device)
    place, fwhm = batch.tensor(templates.position), batch.tensor(templates.fwhm)
    allowed = (place >= low[:, owner] - 0.5 * fwhm) & (place <= high[:, owner] + 0.5 * fwhm)
    if width is not None:
        allowed &= (width < HALF_STEP * fwhm) & (fwhm < HALF_STEP * width)
    chosen = torch.zeros((len(y), peaks), dtype=torch.int64, device=y.device)
    heights, scores = torch.zeros_like(low), torch.zeros_like(low)
    nothing = torch.full((), -torch.inf, dtype=y.dtype, device=y.device)
    each = torch.arange(len(y), device=y.device)
    for _ in range(int(batch.problem.sought.sum())):
        value, best = torch.where(allowed, (y @ rows.T) / norm, nothing).max(dim=1)
        peak = owner[best]
        score = torch.clamp(value, min=0.0)
        chosen[each, peak], scores[each, peak] = best, score
        heights[each, peak] = score / norm[best]
        if peaks > 1:
            y = y - heights[each, peak][:, None] * rows[best]
            y = y - (y @ basis.T) @ basis
            allowed = allowed & (owner[None, :] != peak[:, None])
    return chosen, heights, scores

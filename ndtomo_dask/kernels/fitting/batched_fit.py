"""Fits of pseudo-Voigts in Torch, all spectra of a batch together, on a CPU or a CUDA device.

The algorithm is that of `kernels.levenberg_marquardt`: templates, bounded steps with Nielsen's
damping, the statistical stop. What is not plainly settled here is left to the compiled kernel:
spectra with gaps, without a clear peak, or that did not converge; of several peaks also those with
one at a bound, weak, or twice as wide as another.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.errors import BackendError, OptionError, check_choice
from ndtomo_dask.kernels.fitting import batched_model as model
from ndtomo_dask.kernels.fitting.batched_start import set_starts
from ndtomo_dask.kernels.fitting.fit_work import Results
from ndtomo_dask.kernels.fitting.levenberg_marquardt import CONVERGED
from ndtomo_dask.kernels.fitting.likelihoods import GAUSSIAN, POISSON
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import PSEUDO_VOIGT
from ndtomo_dask.kernels.fitting.pixel_fit import WIDE

Tensor = Any
BACKENDS = ("auto", "cpu", "torch")
SLAB_VALUES = 1 << 20
"""Derivatives of one slab of spectra: 8 MB, of which some copies are made."""
LARGEST_DAMPING, ROUNDS, MOST_STEPS = 1e12, 4, 30
"""How often what would leave the box is set to its bound, and the rest solved for again."""


class _State(NamedTuple):
    """Where the spectra that are still fitted are."""

    free: Tensor
    cost: Tensor
    normal: Tensor
    gradient: Tensor
    damping: Tensor
    growth: Tensor


def check_backend(name: str, problem: Problem) -> str:
    """Return which of the two computes; raise for what is fitted by the compiled kernel only."""
    check_choice("backend", name, BACKENDS)
    if name != "torch":
        return "cpu"
    if not (problem.codes == PSEUDO_VOIGT).all():
        raise OptionError(
            "backend='torch' fits 'gaussian', 'lorentzian' and 'pseudo_voigt' peaks; leave backend "
            "out for the other shapes and an exponential background."
        )
    if problem.kind not in (GAUSSIAN, POISSON) or problem.given:
        raise OptionError(
            "backend='torch' knows likelihood='gaussian' and 'poisson' without given variances; "
            "leave backend out for the others."
        )
    return name


def load_torch() -> Any:
    """Import Torch, or say how it is installed."""
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            "backend='torch' needs Torch on every worker: pip install 'ndtomo-dask[torch]'."
        ) from error
    return torch


def fit_batched(data: NDArray[np.floating], problem: Problem, out: Results) -> NDArray[np.bool_]:
    """Fit what can be fitted in batches, write it to ``out``, and tell which spectra that is.

    # (pixel, channel) -> (pixel,)
    """
    if not len(data):  # of a rehearsal, where Torch need not be installed
        return np.zeros(0, dtype=bool)
    torch = load_torch()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    done = np.zeros(len(data), dtype=bool)
    rows = max(1, SLAB_VALUES // (problem.unit.size * problem.t.size))
    for begin in range(0, len(data), rows):
        piece = slice(begin, begin + rows)
        mine = problem._replace(
            low=_rows(problem.low, piece), high=_rows(problem.high, piece),
            start=_rows(problem.start, piece),
        )  # fmt: skip
        with torch.no_grad():
            done[piece] = _fit_slab(torch, device, data[piece], mine, out.rows(piece))
    return done


def _rows(table: NDArray[np.float64], piece: slice) -> NDArray[np.float64]:
    return table[piece] if len(table) > 1 else table


def _fit_slab(
    torch: Any, device: str, data: NDArray[np.floating], problem: Problem, out: Results
) -> NDArray[np.bool_]:
    usable = np.isfinite(data).all(axis=1) & (data != 0).any(axis=1)
    if problem.kind == POISSON:
        usable &= (data >= 0).all(axis=1)
    chosen = np.flatnonzero(usable)
    done = np.zeros(len(data), dtype=bool)
    if not chosen.size:
        return done
    batch = model.load_batch(torch, device, data, chosen, problem)
    free, clear = set_starts(torch, batch)
    state, tried, converged = _minimize(torch, batch, free)
    found = model.judge(torch, batch, state.free, state.cost, state.normal)
    settled = converged & clear & found.regular & _is_plain(torch, batch, state.free, found)
    kept = settled.cpu().numpy()
    model.write(batch, state.free, found, tried, kept, CONVERGED, out)
    done[chosen[kept]] = True
    return done


def _is_plain(torch: Any, batch: model.Batch, free: Tensor, found: model.Found) -> Tensor:
    """Tell which fits the compiled kernel would neither repeat nor take apart."""
    parameters, problem = batch.expand(free), batch.problem
    first = torch.as_tensor(problem.first[:-1], device=free.device)
    areas, places, widths = (parameters[:, first + k] for k in range(3))
    plain = (areas > 0).all(dim=1)
    if first.numel() == 1:
        return plain
    errors = found.errors[:, first]
    plain &= ~(areas < problem.significance * errors).any(dim=1) & errors.isfinite().all(dim=1)
    plain &= widths.amax(dim=1) <= WIDE * widths.amin(dim=1)
    for k in range(3):
        plain &= ~found.at_bound[:, first + k].any(dim=1)
    for k in range(first.numel()):
        for j in range(k):
            if problem.alike[j] == problem.alike[k]:
                plain &= places[:, j] <= places[:, k]
    return plain


def _minimize(torch: Any, batch: model.Batch, start: Tensor) -> tuple[_State, Tensor, Tensor]:
    """Minimize from the starts: the last states, steps tried, and which converged."""
    cost, normal, gradient = batch.sweep(start)
    ones = torch.ones_like(cost)
    state = _State(start.clone(), cost, normal, gradient, 1e-3 * ones, 2.0 * ones)
    tried = torch.zeros(len(start), dtype=torch.int64, device=start.device)
    converged = torch.zeros(len(start), dtype=torch.bool, device=start.device)
    alive = torch.isfinite(cost).nonzero()[:, 0]
    for _ in range(min(batch.problem.iterations, MOST_STEPS)):
        if not alive.numel():
            break
        tried[alive] += 1
        stopped, good = _step(torch, batch, state, alive)
        converged[alive[good]] = True
        alive = alive[~stopped]
    return state, tried, converged


def _step(torch: Any, batch: model.Batch, state: _State, alive: Tensor) -> tuple[Tensor, Tensor]:
    """Take one damped step of the spectra that are alive; which stop, and which of them well."""
    part = batch.select(alive)
    free, cost, normal, gradient, damping, growth = (one[alive] for one in state)
    step, drop, possible = _find_step(torch, part, free, normal, gradient, damping)
    least = torch.clamp(batch.problem.tolerance * cost / part.freedom, min=part.exact)
    enough = possible & (drop <= least) & (damping <= 1.0)
    trial = torch.minimum(torch.maximum(free + step, part.low), part.high)
    new, new_normal, new_gradient = part.sweep(trial)

    better = possible & (drop >= 0) & (new < cost)
    ratio = torch.clamp((cost - new) / torch.clamp(drop, min=1e-300), max=2.0)
    shrink = torch.clamp(1.0 - (2.0 * ratio - 1.0) ** 3, min=1.0 / 3.0)
    failed = ~possible | (drop < 0)
    state.damping[alive] = torch.where(
        better,
        damping * shrink,
        damping * torch.where(failed, 10.0 * torch.ones_like(growth), growth),
    )
    worse = torch.where(failed, growth, 2.0 * growth)
    state.growth[alive] = torch.where(better, 2.0 * torch.ones_like(growth), worse)
    moved = alive[better]
    state.free[moved], state.cost[moved] = trial[better], new[better]
    state.normal[moved], state.gradient[moved] = new_normal[better], new_gradient[better]
    return enough | (state.damping[alive] > LARGEST_DAMPING), enough


def _find_step(
    torch: Any, batch: model.Batch, free: Tensor, normal: Tensor, gradient: Tensor, damping: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Find damped steps within the bounds, their drops, and whether there are any."""
    low, high = batch.low, batch.high
    diagonal = torch.diagonal(normal, dim1=1, dim2=2)
    held = ((gradient < 0) & (free <= low)) | ((gradient > 0) & (free >= high))
    held |= ~(diagonal > 1e-200)
    step = torch.zeros_like(free)
    possible = torch.ones_like(damping, dtype=torch.bool)
    for _ in range(ROUNDS):
        open_ = (~held).to(normal.dtype)
        matrix = normal * open_[:, :, None] * open_[:, None, :]
        spread = torch.where(held, torch.ones_like(diagonal), diagonal * damping[:, None])
        matrix = matrix + torch.diag_embed(spread)
        right = (gradient - (normal @ (step * (1 - open_))[:, :, None])[:, :, 0]) * open_
        solved, fine = model.solve(torch, matrix, right)
        possible &= fine
        step = torch.where(held, step, solved)
        goal = free + step
        leaving = ~held & ((goal < low) | (goal > high))
        if not bool(leaving.any()):
            break
        step = torch.where(leaving, torch.where(goal < low, low, high) - free, step)
        held = held | leaving
    pull = 2.0 * gradient - (normal @ step[:, :, None])[:, :, 0]
    return step, (step * pull).sum(dim=1), possible

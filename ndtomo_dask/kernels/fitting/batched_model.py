"""Batches of spectra in Torch: their model, its derivatives, costs, errors and results."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ndtomo_dask.kernels.fitting.fit_work import Results
from ndtomo_dask.kernels.fitting.levenberg_marquardt import EXACT_STOP
from ndtomo_dask.kernels.fitting.likelihoods import GAUSSIAN, LEAST_COUNT, POISSON
from ndtomo_dask.kernels.fitting.peak_problem import Problem
from ndtomo_dask.kernels.fitting.peak_shapes import GAUSSIAN_WIDTH, LN2, LORENTZIAN_WIDTH

Tensor = Any
Rows = NDArray[np.int64]


class Found(NamedTuple):
    """What follows from the last point of a fit, in units of t and of the scaled data."""

    errors: Tensor
    at_bound: Tensor
    reduced: Tensor
    regular: Tensor


class Batch(NamedTuple):
    """Spectra, scaled to 1, with bounds and starts in their units."""

    torch: Any
    problem: Problem
    chosen: Rows
    """Rows of the spectra among those of the slab."""
    t: Tensor
    y: Tensor
    scale: Tensor
    background: Tensor
    map: Tensor
    """From free parameters to all. (parameter, free)"""
    offset: Tensor
    least: Tensor
    most: Tensor
    given: Tensor
    low: Tensor
    high: Tensor

    @property
    def freedom(self) -> int:
        """Channels less free parameters."""
        return int(self.t.numel() - self.map.shape[1])

    @property
    def exact(self) -> Tensor:
        """Drop of the cost that rounding hides."""
        factor = self.scale[:, 0] if self.problem.kind == POISSON else torch_ones(self)
        return EXACT_STOP * self.t.numel() * factor

    def tensor(self, values: NDArray[np.floating]) -> Tensor:
        """Bring an array to the device, in float64."""
        return self.torch.as_tensor(
            np.ascontiguousarray(values, dtype=np.float64), device=self.t.device
        )

    def select(self, rows: Tensor) -> "Batch":
        """Return some of the spectra."""
        per_row = ("y", "scale", "offset", "least", "most", "given", "low", "high")
        return self._replace(**{name: getattr(self, name)[rows] for name in per_row})

    def expand(self, free: Tensor) -> Tensor:
        """Return all parameters that follow from the free ones."""
        return self.offset + free @ self.map.T

    def start(self, place: Tensor, width: Tensor, area: Tensor) -> Tensor:
        """Return the free parameters to begin with: given ones, templates, and a background."""
        torch, problem = self.torch, self.problem
        values = self.tensor(problem.guess).expand(len(self.y), -1).clone()
        first = problem.first[:-1]
        values[:, first], values[:, first + 1], values[:, first + 2] = area, place, width
        terms = len(problem.background)
        peaks, _ = self.curves(values)
        inverse = self.tensor(np.linalg.pinv(problem.background)) if terms else None
        begin = int(problem.first[-1])
        if terms:
            values[:, begin : begin + terms] = (self.y - peaks) @ inverse
        values = torch.where(self.given.isfinite(), self.given, values)
        free = torch.zeros(
            (len(self.y), self.map.shape[1]), dtype=self.y.dtype, device=self.y.device
        )
        for j in range(free.shape[1]):
            entry = problem.tie[j]
            i, share = int(problem.tied[entry]), float(problem.coefficient[entry])
            free[:, j] = (values[:, i] - self.offset[:, i]) / share
        return torch.minimum(torch.maximum(free, self.low), self.high)

    def curves(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the peaks and the derivatives by all parameters.

        # (pixel, parameter) -> (pixel, channel), (pixel, parameter, channel)
        """
        torch, problem = self.torch, self.problem
        shape = (len(parameters), problem.unit.size, self.t.numel())
        columns = torch.zeros(shape, dtype=self.t.dtype, device=self.t.device)
        total = torch.zeros((shape[0], shape[2]), dtype=self.t.dtype, device=self.t.device)
        for i in problem.first[:-1]:
            area, place, fwhm, fraction = (parameters[:, int(i) + k, None] for k in range(4))
            q = fraction * LORENTZIAN_WIDTH + (1.0 - fraction) * GAUSSIAN_WIDTH
            z = (self.t - place) / fwhm
            square = z * z
            lorentzian, gaussian = 1.0 / (1.0 + 4.0 * square), torch.exp(-4.0 * LN2 * square)
            profile = fraction * lorentzian + (1.0 - fraction) * gaussian
            unit = 1.0 / (fwhm * q)
            height = area * unit
            k = fraction * lorentzian**2 + LN2 * (1.0 - fraction) * gaussian
            k = z * (8.0 * height / fwhm) * k
            columns[:, i] = unit * profile
            columns[:, i + 1] = k
            columns[:, i + 2] = z * k - height * profile / fwhm
            slope = (LORENTZIAN_WIDTH - GAUSSIAN_WIDTH) / q
            columns[:, i + 3] = height * (lorentzian - gaussian - slope * profile)
            total = total + height * profile
        begin = int(problem.first[-1])
        columns[:, begin : begin + len(self.background)] = self.background
        return total, columns

    def evaluate(self, free: Tensor) -> tuple[Tensor, Tensor]:
        """Return the residuals and the derivatives by the free parameters."""
        parameters = self.expand(free)
        peaks, columns = self.curves(parameters)
        begin = int(self.problem.first[-1])
        terms = parameters[:, begin : begin + len(self.background)]
        return self.y - peaks - terms @ self.background, self.map.T @ columns

    def sweep(self, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return cost, normal matrix and gradient."""
        residual, slopes = self.evaluate(free)
        if self.problem.kind == GAUSSIAN:
            cost, weighted, pull = (residual**2).sum(dim=1), slopes, residual
        else:
            cost, weight, pull = _poisson(self.torch, self.y, residual, self.scale)
            weighted = slopes * weight[:, None]
        gradient = (slopes @ pull[:, :, None])[:, :, 0]
        return cost, weighted @ slopes.transpose(1, 2), gradient


def torch_ones(batch: Batch) -> Tensor:
    """Return a 1 for each spectrum."""
    return batch.torch.ones_like(batch.scale[:, 0])


def _poisson(
    torch: Any, y: Tensor, residual: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cost, weights and pulls of counts, as `likelihoods.weigh_counts` has them."""
    least, model = LEAST_COUNT / scale, y - residual
    safe = torch.maximum(model, least)
    cost = safe - y + torch.xlogy(y, y / safe)
    weight, pull = scale / safe, scale * (y / safe - 1.0)
    below, bend = torch.clamp(model - least, max=0.0), torch.maximum(y, least) / safe**2
    cost = cost + (1.0 - y / safe) * below + 0.5 * bend * below * below
    under = model < least
    weight = torch.where(under, scale * bend, weight)
    return 2.0 * scale[:, 0] * cost.sum(dim=1), weight, pull - scale * bend * below


def load_batch(
    torch: Any, device: str, data: NDArray[np.floating], chosen: Rows, problem: Problem
) -> Batch:
    """Bring spectra, bounds and starts to a device, in units of t and of the largest magnitude."""
    spectra = data[chosen].astype(np.float64)
    spectra = spectra[:, ::-1] if problem.descending else spectra
    scale = np.abs(spectra).max(axis=1, keepdims=True)
    sizes = problem.unit * np.where(problem.of_data, scale, 1.0)

    def scaled(table: NDArray[np.float64]) -> NDArray[np.float64]:
        own = table[chosen] if len(table) > 1 else table
        return np.asarray((own - problem.origin) / sizes)

    least, most = scaled(problem.low), scaled(problem.high)
    offset = problem.offset / np.where(problem.of_data, scale, 1.0)
    count = problem.tie.size - 1
    linear, low, high = np.zeros((problem.unit.size, count)), [], []
    for j in range(count):
        lows, highs = np.full(len(scale), -np.inf), np.full(len(scale), np.inf)
        for e in range(problem.tie[j], problem.tie[j + 1]):
            i, share = problem.tied[e], problem.coefficient[e]
            linear[i, j] += share
            if problem.single[i] and share != 0.0:
                ends = np.sort(
                    [(side[:, i] - offset[:, i]) / share for side in (least, most)], axis=0
                )
                lows, highs = np.maximum(lows, ends[0]), np.minimum(highs, ends[1])
        low.append(lows)
        high.append(highs)

    def sent(values: NDArray[np.floating]) -> Tensor:
        return torch.as_tensor(np.array(values, dtype=np.float64, order="C"), device=device)

    return Batch(
        torch, problem, chosen, sent(problem.t), sent(spectra / scale), sent(scale),
        sent(problem.background), sent(linear), sent(offset), sent(least), sent(most),
        sent(np.broadcast_to(scaled(problem.start), least.shape)), sent(np.stack(low, 1)),
        sent(np.stack(high, 1)),
    )  # fmt: skip


def solve(torch: Any, matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solve systems by Cholesky factors of matrices of unit diagonal; which were regular."""
    size = torch.diagonal(matrix, dim1=1, dim2=2).clamp(min=1e-300).sqrt()
    factor, wrong = torch.linalg.cholesky_ex(matrix / (size[:, :, None] * size[:, None, :]))
    fine = wrong == 0
    safe = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    factor = torch.where(fine[:, None, None], factor, safe)
    solved = torch.cholesky_solve((right / size)[:, :, None], factor)[:, :, 0] / size
    return torch.where(fine[:, None], solved, torch.zeros_like(solved)), fine


def judge(torch: Any, batch: Batch, free: Tensor, cost: Tensor, normal: Tensor) -> Found:
    """Work out standard errors, as `kernels.fit_errors` does, and which parameters are at a bound.

    Bounds make no other parameter more certain: the matrix is that of all that are varied.
    """
    problem = batch.problem
    count = free.shape[1]
    eye = torch.eye(count, dtype=free.dtype, device=free.device)
    columns = [solve(torch, normal, eye[k].expand(len(free), -1)) for k in range(count)]
    covariance = torch.stack([column for column, _ in columns], dim=2)
    regular = columns[0][1]
    inside = (batch.low < free) & (free < batch.high)
    freedom = batch.t.numel() - inside.sum(dim=1)
    reduced = cost / freedom
    if problem.kind == GAUSSIAN and not problem.counts:
        covariance = covariance * reduced[:, None, None]
    elif problem.kind == GAUSSIAN:
        residual, slopes = batch.evaluate(free)
        noise = torch.clamp(batch.y - residual, min=0.0) / batch.scale
        middle = (slopes * noise[:, None]) @ slopes.transpose(1, 2)
        covariance = covariance @ middle @ covariance
    squares = ((batch.map @ covariance) * batch.map).sum(dim=2)
    at_bound = torch.zeros_like(squares, dtype=torch.bool)
    for i in np.flatnonzero(problem.single & (problem.source >= 0)):
        at_bound[:, int(i)] = ~inside[:, int(problem.source[i])]
    errors = torch.where((squares > 0) & ~at_bound, squares, torch.nan).sqrt()
    return Found(errors, at_bound, reduced, regular)


def write(
    batch: Batch, free: Tensor, found: Found, tried: Tensor, kept: NDArray[np.bool_], status: int,
    out: Results,
) -> None:  # fmt: skip
    """Write the fits that are kept, in axis units."""
    problem, rows = batch.problem, batch.chosen[kept]
    scale = batch.scale.cpu().numpy()[kept]
    sizes = problem.unit * np.where(problem.of_data, scale, 1.0)
    low, high = (side[rows] if len(side) > 1 else side for side in (problem.low, problem.high))
    values = batch.expand(free).cpu().numpy()[kept]
    ended = found.at_bound.cpu().numpy()[kept] & (low < high)
    least, most = (side.cpu().numpy()[kept] for side in (batch.least, batch.most))
    shown = np.clip(problem.origin + values * sizes, low, high)
    shown = np.where(
        ended & (values <= least), low, np.where(ended & (values >= most), high, shown)
    )
    out.values[rows], out.errors[rows] = shown, found.errors.cpu().numpy()[kept] * sizes
    out.at_bound[rows] = ended
    square = scale[:, 0] ** 2 if problem.kind == GAUSSIAN else 1.0
    out.cost[rows] = found.reduced.cpu().numpy()[kept] * square
    out.iterations[rows], out.status[rows] = tried.cpu().numpy()[kept], status

"""What the model of a ray does to iterative methods: the same steps on the same data.

The sinogram is the mean of line integrals over strips, known by formula; no model has exactly these
edges. Solvers are called without the verb, which has no option for the model.
"""

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks import truth
from ndtomo_dask.geometry import ParallelGeometry
from ndtomo_dask.kernels import solvers
from ndtomo_dask.kernels.projectors import load_projector

MODELS = {"pixel": "cpu", "joseph": "cpu", "line": "reference", "strip": "reference"}
"""Models, and the backend that each is taken from."""
SOLVERS: dict[str, Callable[..., np.ndarray]] = {
    "`cgls`, 10 steps": lambda A, y: solvers.cgls(A, y, iterations=10),
    "`cgls`, 30 steps": lambda A, y: solvers.cgls(A, y, iterations=30),
    "`sirt`, nonnegative, 100 steps": lambda A, y: solvers.sirt(
        A, y, iterations=100, nonnegative=True
    ),
    "`mlem`, 100 steps": lambda A, y: solvers.mlem(A, y, iterations=100),
}


def ripple(model: str, size: int = 97) -> float:
    """Scatter of the samples of a uniform disc at 45°, over those of a strip, in their middle."""
    geometry = ParallelGeometry.centered(np.array([np.pi / 4]), size)
    disc = (np.hypot(geometry.y[:, None], geometry.x) < size / 3)[..., None].astype(float)
    exact = load_projector("reference", geometry, "strip")(disc)
    found = load_projector(MODELS[model], geometry, model)(disc)
    middle = slice(size // 2 - size // 6, size // 2 + size // 6)
    return float((found / np.where(exact > 0, exact, 1.0))[0, middle].std())


def compare_models(
    theta: truth.Float64,
    sinogram: np.ndarray,
    judge: Callable[[np.ndarray], tuple[float, float]],
) -> dict[str, dict[str, tuple[float, float]]]:
    """Judge what each solver (outer names) makes with each model (inner names)."""
    geometry = ParallelGeometry.centered(theta, sinogram.shape[1])
    operators = {
        model: load_projector(backend, geometry, model) for model, backend in MODELS.items()
    }
    return {
        name: {model: judge(np.asarray(solve(A, sinogram))) for model, A in operators.items()}
        for name, solve in SOLVERS.items()
    }


def models_table(found: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    """Write one table in Markdown: solvers down, models across."""
    lines = ["| | " + " | ".join(f'`"{model}"`' for model in MODELS) + " |"]
    lines.append("| --- " * (1 + len(MODELS)) + "|")
    for name, errors in found.items():
        cells = " | ".join(f"{rmse:.3f} / {ssim:.3f}" for rmse, ssim in errors.values())
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)

"""Fewer steps to the fixed point of an iteration that never raises an objective."""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

DEPTH = 5
"""Steps before the last that are combined with it."""


class Anderson:
    """Extrapolate x → g(x) from the last steps, with its objective as a guard.

    Of the last points the combination is taken whose step g(x) - x would be shortest if g were
    linear (Anderson, J. ACM 12, 547 (1965)). Where the objective rises, the point is given up for
    the plain step before it, and the past is forgotten (Zhang et al., arXiv:1805.10638, for
    K-means).
    """

    def __init__(self, start: Float64) -> None:
        self.trial = start
        """Point at which the iteration is to be evaluated next."""
        self.image = start
        """Plain step from the best point so far."""
        self.value = np.inf
        """Objective at the best point so far."""
        self._step: Float64 | None = None
        self._steps: list[Float64] = []
        self._images: list[Float64] = []

    def advance(self, image: Float64, value: float, *, forget: bool = False) -> bool:
        """Take g(trial) and the objective at the trial; tell whether the trial was kept.

        ``forget`` says that this step is of another kind than those before it.
        """
        if value > self.value:
            self.trial, self._step, self._steps, self._images = self.image, None, [], []
            return False
        step = image - self.trial
        if forget:
            self._steps, self._images = [], []
        elif self._step is not None:
            self._steps = [*self._steps, (step - self._step).ravel()][-DEPTH:]
            self._images = [*self._images, (image - self.image).ravel()][-DEPTH:]
        self.value, self._step, self.image = value, (None if forget else step), image
        self.trial = self._combined(step)
        return True

    def _combined(self, step: Float64) -> Float64:
        if not self._steps:
            return self.image
        weights = np.linalg.lstsq(np.stack(self._steps, axis=1), step.ravel(), rcond=1e-10)[0]
        return np.asarray(
            self.image - (np.stack(self._images, axis=1) @ weights).reshape(step.shape)
        )

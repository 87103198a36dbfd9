"""Simulated scans whose axis of rotation is known by formula: projections of ellipses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

NOISE = (3.0, 5.0, 10.0, 30.0, 100.0)
"""Signal-to-noise ratios: the mean signal inside the sample over the deviation of the noise."""
SUB = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Rays over which a beam one step wide is averaged."""


@dataclass(frozen=True)
class Scan:
    """One simulated scan, and what it was made of."""

    image: Float64
    """Sum over the channels, (angle, translation)."""
    angles: Float64
    """In radians."""
    center: float
    span: int
    snr: float
    kind: str


def scan_number(number: int) -> Scan:
    """Return one of the scans; size, span, noise, axis and sample follow from its number."""
    rng = np.random.default_rng([7, number])
    steps = int(rng.integers(64, 513))
    span = (180, 360)[number % 2]
    snr = NOISE[number // 2 % len(NOISE)]
    kind = ("packed", "sparse", "shell", "off axis")[number // 10 % 4]
    projections = int(steps * rng.uniform(0.6, 1.2)) * span // 180
    angles = np.deg2rad(np.arange(projections) * span / projections)
    center = (steps - 1) / 2 + rng.uniform(-0.08, 0.08) * steps
    image = _sample(rng, kind, angles, steps, center)
    noise = image[image > 0.02 * image.max()].mean() / snr
    return Scan(image + rng.normal(0, noise, image.shape), angles, center, span, snr, kind)


def _sample(
    rng: np.random.Generator, kind: str, angles: Float64, steps: int, center: float
) -> Float64:
    """Project a sample that stays in the field of view, (angle, translation)."""
    room = min(center, steps - 1 - center)
    radius, away = (0.6, 0.3) if kind == "off axis" else (0.9, 0.0)
    turn = rng.uniform(0, 2 * np.pi)
    middle = room * away * np.array([np.cos(turn), np.sin(turn)])
    whole = {"packed": 0.5, "sparse": 0.0, "shell": 0.0, "off axis": 0.5}[kind]
    image = np.zeros((angles.size, steps))
    if whole:
        axes = radius * room * rng.uniform(0.8, 1.0, 2)
        image += whole * _ellipse(angles, steps, center, middle, axes, rng.uniform(0, np.pi))
    if kind == "shell":
        for size, sign in ((1.0, 1.0), (0.92, -1.0)):
            axes = np.full(2, radius * room * size)
            image += sign * _ellipse(angles, steps, center, middle, axes, 0.0)
    for _ in range(12 if kind == "sparse" else 30):
        along = radius * room * 0.8 * np.sqrt(rng.uniform())
        turn, axes = rng.uniform(0, 2 * np.pi), radius * room * rng.uniform(0.03, 0.2, 2)
        place = middle + along * np.array([np.cos(turn), np.sin(turn)])
        grain = _ellipse(angles, steps, center, place, axes, rng.uniform(0, np.pi))
        image += rng.uniform(0.2, 1.0) * grain
    return image


def _ellipse(
    angles: Float64, steps: int, center: float, place: Float64, axes: Float64, tilt: float
) -> Float64:
    """Chords through an ellipse of density 1, averaged over the width of a step."""
    path = center + place[0] * np.cos(angles) - place[1] * np.sin(angles)
    half = np.hypot(axes[0] * np.cos(angles - tilt), axes[1] * np.sin(angles - tilt))[:, None]
    chords = np.zeros((angles.size, steps))
    for sub in SUB:
        inside = 1 - ((np.arange(steps) + sub - path[:, None]) / half) ** 2
        chords += 2 * axes.prod() / half * np.sqrt(np.clip(inside, 0, None))
    return chords / len(SUB)

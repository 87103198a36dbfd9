"""Simulated samples, spectra and scans with known truth: what tests, demo and tutorials feed on."""

from ndtomo_dask.synthetic.defects import simulate_defects
from ndtomo_dask.synthetic.frames import simulate_frames
from ndtomo_dask.synthetic.scan import ENERGY, Q_RANGE, simulate_scan, true_peaks

__all__ = [
    "ENERGY",
    "Q_RANGE",
    "simulate_defects",
    "simulate_frames",
    "simulate_scan",
    "true_peaks",
]

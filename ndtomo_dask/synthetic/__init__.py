"""Simulated samples, spectra and scans with known truth: what tests, demo and tutorials feed on."""

from ndtomo_dask.synthetic.acquisition import simulate_acquisition, simulate_measurement
from ndtomo_dask.synthetic.animation import animate_acquisition
from ndtomo_dask.synthetic.defects import simulate_defects
from ndtomo_dask.synthetic.fluorescence import simulate_fluorescence
from ndtomo_dask.synthetic.frames import simulate_frames
from ndtomo_dask.synthetic.maps import simulate_maps, simulate_volume
from ndtomo_dask.synthetic.scan import simulate_scan, true_peaks
from ndtomo_dask.synthetic.spectra import (
    ENERGY,
    Q_RANGE,
    pattern_from_reflections,
    simulate_spectra,
)

__all__ = [
    "ENERGY",
    "Q_RANGE",
    "animate_acquisition",
    "pattern_from_reflections",
    "simulate_acquisition",
    "simulate_defects",
    "simulate_fluorescence",
    "simulate_frames",
    "simulate_maps",
    "simulate_measurement",
    "simulate_scan",
    "simulate_spectra",
    "simulate_volume",
    "true_peaks",
]

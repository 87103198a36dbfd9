"""Distributed, out-of-core hyperspectral tomography: from scans to labelled chemistry."""

from ndtomo_dask.components.clusters import find_clusters, map_clusters
from ndtomo_dask.components.decompose import find_components, find_spectral_moments, map_components
from ndtomo_dask.components.line_patterns import line_patterns
from ndtomo_dask.components.rank import find_rank
from ndtomo_dask.components.references import fit_references, phase_fractions
from ndtomo_dask.coordinates import derive_axes
from ndtomo_dask.correct import (
    absorption_correction,
    crop,
    find_air,
    find_bad_channels,
    find_projection_scale,
    find_translation_scale,
    flat_field,
    interpolate_masked,
    mask_channels,
    mask_circle,
    normalize_monitor,
    normalize_projections,
    normalize_translations,
    pad,
    rebin,
    rebin_axis,
    remove_air,
    remove_outliers,
    remove_rings,
    self_absorption_correction,
    subtract_background,
)
from ndtomo_dask.frames.integrate import integrate
from ndtomo_dask.io import (
    convert,
    export,
    export_frames,
    export_patterns,
    open_frames,
    open_scan,
    save,
    verify,
)
from ndtomo_dask.peaks.crystal import crystallite_size, lattice_parameter, strain, williamson_hall
from ndtomo_dask.peaks.evaluate import evaluate_peaks
from ndtomo_dask.peaks.fit import fit_peaks
from ndtomo_dask.peaks.moments import peak_moments, position_from_moments
from ndtomo_dask.peaks.table import find_peaks, windows_of
from ndtomo_dask.query import image, spectrum
from ndtomo_dask.reconstruction.additive import maps_from_volume, sinogram_from_maps
from ndtomo_dask.reconstruction.align import (
    align_projections,
    find_projection_shifts,
    find_rotation_center,
    set_rotation_center,
)
from ndtomo_dask.reconstruction.choose import find_iterations, find_regularization
from ndtomo_dask.reconstruction.compress import (
    compress_channels,
    expand_channels,
    find_spectral_basis,
)
from ndtomo_dask.reconstruction.polar import to_cartesian, to_polar
from ndtomo_dask.reconstruction.project import project
from ndtomo_dask.reconstruction.reconstruct import reconstruct
from ndtomo_dask.runtime import connect
from ndtomo_dask.survey import survey_scan
from ndtomo_dask.synthetic import (
    animate_acquisition,
    pattern_from_reflections,
    simulate_acquisition,
    simulate_defects,
    simulate_fluorescence,
    simulate_frames,
    simulate_maps,
    simulate_measurement,
    simulate_scan,
    simulate_spectra,
    simulate_volume,
)

__all__ = [
    "absorption_correction",
    "align_projections",
    "animate_acquisition",
    "compress_channels",
    "connect",
    "convert",
    "crop",
    "crystallite_size",
    "derive_axes",
    "evaluate_peaks",
    "expand_channels",
    "export",
    "export_frames",
    "export_patterns",
    "find_air",
    "find_bad_channels",
    "find_clusters",
    "find_components",
    "find_iterations",
    "find_peaks",
    "find_projection_scale",
    "find_projection_shifts",
    "find_rank",
    "find_regularization",
    "find_rotation_center",
    "find_spectral_basis",
    "find_spectral_moments",
    "find_translation_scale",
    "fit_peaks",
    "fit_references",
    "flat_field",
    "image",
    "integrate",
    "interpolate_masked",
    "lattice_parameter",
    "line_patterns",
    "map_clusters",
    "map_components",
    "maps_from_volume",
    "mask_channels",
    "mask_circle",
    "normalize_monitor",
    "normalize_projections",
    "normalize_translations",
    "open_frames",
    "open_scan",
    "pad",
    "pattern_from_reflections",
    "peak_moments",
    "phase_fractions",
    "position_from_moments",
    "project",
    "rebin",
    "rebin_axis",
    "reconstruct",
    "remove_air",
    "remove_outliers",
    "remove_rings",
    "save",
    "self_absorption_correction",
    "set_rotation_center",
    "simulate_acquisition",
    "simulate_defects",
    "simulate_fluorescence",
    "simulate_frames",
    "simulate_maps",
    "simulate_measurement",
    "simulate_scan",
    "simulate_spectra",
    "simulate_volume",
    "sinogram_from_maps",
    "spectrum",
    "strain",
    "subtract_background",
    "survey_scan",
    "to_cartesian",
    "to_polar",
    "verify",
    "williamson_hall",
    "windows_of",
]

"""A small recipe of the main job on a simulated file, for the tests of what runs recipes."""

import hashlib
from pathlib import Path

import yaml

from ndtomo_dask.io import export
from ndtomo_dask.synthetic import simulate_scan

STEPS = [
    {"remove_air": {"width": 2}},
    "normalize_projections",
    "find_projection_shifts",
    "align_projections",
    "find_rotation_center",
    "set_rotation_center",
    {"reconstruct": {"method": "fbp", "filter": "hann"}},
    {"find_components": {"method": "nmf", "components": 3, "iterations": 30}},
    "map_components",
    {"fit_peaks": {"windows": {"Cu 200": [3.3, 3.65]}, "axis": "q", "shape": "gaussian"}},
]
SAVED = ["sinogram", "volume", "missing_samples", "component_spectrum", "component_map",
         "peak_area", "peak_position", "peak_status"]  # fmt: skip
SIZES = {"size": 32, "angles": 40, "channels": 96, "grains": 12, "seed": 7}


def write_scan(path: Path, **sizes: int) -> Path:
    export(simulate_scan(**(SIZES | sizes)), path, variable="sinogram")
    return path


def write_recipe(path: Path, scan: Path, output: Path, **changes: object) -> Path:
    content = {"input": str(scan), "output": str(output), "steps": STEPS, "save": SAVED} | changes
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def hashes(store: Path) -> dict[str, str]:
    """Digest of every file below a store."""
    return {
        str(path.relative_to(store)): hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }

"""A report of a run: one HTML file with pictures, numbers, plan and timings."""

import base64
import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import BackendError
from ndtomo_dask.io.repair import FOUND_GROUP
from ndtomo_dask.io.scan import open_scan
from ndtomo_dask.kernels.fitting.levenberg_marquardt import FitStatus
from ndtomo_dask.plan import HEAD
from ndtomo_dask.schema import package_version

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRONG = 0.1
"""Positions and widths are drawn where the area is this share of the strongest peaks'."""
CERTAIN = 0.3
"""…and its standard error is below this share of it."""
Section = tuple[str, str]
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2430; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #d5dbe3; }
img { max-width: 100%; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #e6eaf0; }
pre { background: #f4f6f9; padding: .8rem; overflow-x: auto; white-space: pre-wrap; }
.note { color: #5a6675; }
"""


def write_report(
    store: str | Path,
    path: str | Path,
    *,
    truth: xr.Dataset | None = None,
    numbers: Mapping[str, object] | None = None,
    title: str = "Tomography report",
) -> None:
    """Write a report of a store: what was done, what came out, what it cost.

    Parameters
    ----------
    store
        A result of `run_recipe`, or any store of ours.
    path
        The HTML file to write; pictures are inside it.
    truth
        Maps ``true_phase_map`` and ``true_peak_…`` to show beside the result, of a simulation.
    numbers
        Figures for a table at the top, by their description.
    title
        Of the page.

    Raises
    ------
    BackendError
        Matplotlib is not installed.
    """
    store = Path(store)
    ds = open_scan(store, layout="images")
    makers: Sequence[Callable[[], Section | None]] = (
        lambda: _numbers(numbers),
        lambda: _sinogram(ds),
        lambda: _center(store),
        lambda: _slices(ds),
        lambda: _components(ds, truth),
        lambda: _peaks(ds, truth),
        lambda: _faults(ds),
        lambda: _cost(store),
        lambda: ("History", f"<pre>{html.escape(str(ds.attrs.get('history', 'none')))}</pre>"),
    )
    sections = [section for maker in makers if (section := maker()) is not None]
    body = "".join(f"<h2>{name}</h2>{content}" for name, content in sections)
    Path(path).write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}"
        f"</title><style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<p class='note'>{html.escape(store.name)}, ndtomo_dask {package_version()}</p>"
        f"{body}</body></html>",
        encoding="utf-8",
    )


def _numbers(numbers: Mapping[str, object] | None) -> Section | None:
    return ("In numbers", _table([*numbers.items()])) if numbers else None


def _sinogram(ds: xr.Dataset) -> Section | None:
    if "sinogram" not in ds:
        return None
    sinogram = _one_frame(ds["sinogram"])
    total = sinogram.mean("channel").compute()
    middle = sinogram.isel(channel=sinogram.sizes["channel"] // 2).compute()
    figure, (left, right) = _figure(1, 2, height=3.2)
    _show(left, total, "mean over channels", ("translation", "angle"))
    _show(right, middle, f"one channel{_where(middle)}", ("translation", "angle"))
    return "Sinogram", _picture(figure)


def _center(store: Path) -> Section | None:
    found = sorted((store / FOUND_GROUP).glob("*_find_rotation_center"))
    if not found:
        return None
    result = open_scan(found[-1])
    center, error = float(result["rotation_center"]), float(result["rotation_center_error"])
    figure, (axes,) = _figure(1, 1, height=2.6)
    axes.plot(result["candidate"], result["score"], color="#30507a")
    axes.axvline(center, color="#c2410c", linewidth=1)
    axes.set(xlabel="rotation center / translation steps", ylabel="score")
    text = f"<p>Rotation axis at translation index {center:.2f} ± {error:.2f}.</p>"
    return "Rotation center", text + _picture(figure)


def _slices(ds: xr.Dataset) -> Section | None:
    if "volume" not in ds:
        return None
    shown = _heights(ds["volume"])
    spectral = ds.sizes["channel"] > 1
    figure, axes = _figure(1, len(shown) + spectral, height=3.4)
    for ax, image in zip(axes, shown, strict=False):
        height = [f"z = {float(image['z']):.4g} mm"] if "z" in image.coords else []
        title = ", ".join([*height, *["mean over channels"] * spectral])
        _show(ax, image.mean("channel").compute(), title, ("x", "y"))
    if spectral:
        channel = shown[0].isel(channel=ds.sizes["channel"] // 2).compute()
        _show(axes[-1], channel, f"one channel{_where(channel)}", ("x", "y"))
    assumed = html.escape(ds["volume"].attrs.get("assumed", ""))
    return "Slices", _picture(figure) + f"<p class='note'>Assumed: {assumed}.</p>"


def _heights(volume: xr.DataArray) -> list[xr.DataArray]:
    """Up to three slices; of frames, the first."""
    volume = volume.isel(time=0) if "time" in volume.dims else volume
    if "z" not in volume.dims:
        return [volume]
    return [
        volume.isel(z=index) for index in sorted({0, volume.sizes["z"] // 2, volume.sizes["z"] - 1})
    ]


def _components(ds: xr.Dataset, truth: xr.Dataset | None) -> Section | None:
    if "component_map" not in ds or "component_spectrum" not in ds:
        return None
    maps, spectra = _one_frame(ds["component_map"]).compute(), ds["component_spectrum"].compute()
    count = maps.sizes["component"]
    figure, axes = _figure(1, count, height=2.6)
    for number, ax in enumerate(axes):
        _show(ax, maps.isel(component=number), f"component {number}", ("x", "y"))
    lines, (plot,) = _figure(1, 1, height=3.0)
    axis = next((name for name in ("q", "tth", "energy") if name in spectra.coords), None)
    for number in range(count):
        line = spectra.isel(component=number)
        plot.plot(
            line[axis] if axis else np.arange(line.size), line, label=str(number), linewidth=1
        )
    plot.set(xlabel=_axis_label(spectra, axis), ylabel="component spectrum")
    plot.legend(ncols=count, frameon=False)
    content = _picture(figure) + _picture(lines)
    return "Components", content + (_true_phases(truth) if truth is not None else "")


def _true_phases(truth: xr.Dataset) -> str:
    phases = _one_frame(truth["true_phase_map"])
    figure, axes = _figure(1, phases.sizes["phase"], height=2.6)
    for ax, name in zip(axes, phases["phase"].values, strict=True):
        _show(ax, phases.sel(phase=name), f"truth: {name}", ("x", "y"))
    return _picture(figure)


def _peaks(ds: xr.Dataset, truth: xr.Dataset | None) -> Section | None:
    if "peak_area" not in ds:
        return None
    names = [name for name in ("peak_area", "peak_position", "peak_fwhm") if name in ds]
    content = ""
    for peak in ds["peak"].values:
        fitted = {name: _one_frame(ds[name]).sel(peak=peak).compute() for name in names}
        area = fitted["peak_area"].fillna(0)
        strong = area > STRONG * float(area.quantile(0.99))
        if "peak_area_error" in ds:
            error = _one_frame(ds["peak_area_error"]).sel(peak=peak).compute()
            strong &= error < CERTAIN * area
        fitted |= {name: fitted[name].where(strong) for name in names[1:]}
        shown = [(f"{peak}: {name[5:]}", image, _limits(image)) for name, image in fitted.items()]
        for name in names:
            if truth is not None and f"true_{name}" in truth:
                true = _one_frame(truth[f"true_{name}"]).sel(peak=peak)
                shown.append((f"truth: {name[5:]}", true, _limits(fitted[name])))
        figure, axes = _figure(1, len(shown), height=2.8)
        for ax, (title, image, limits) in zip(axes, shown, strict=True):
            _show(ax, image, title, ("x", "y"), limits=limits)
        content += _picture(figure)
    note = "White: not fitted. Positions and widths are drawn where the peak is strong."
    content += f"<p class='note'>{note}</p>"
    return "Peaks", content + _status_table(ds)


def _status_table(ds: xr.Dataset) -> str:
    rows: list[tuple[object, ...]] = [("", *(status.name.lower() for status in FitStatus))]
    for peak in ds["peak"].values:
        values = ds["peak_status"].sel(peak=peak).values
        rows.append((peak, *(int((values == int(status)).sum()) for status in FitStatus)))
    return "<p>Pixels by how their fit ended:</p>" + _table(rows)


def _faults(ds: xr.Dataset) -> Section | None:
    if "missing_samples" not in ds:
        return None
    missing = int(ds["missing_samples"].sum())
    share = f" of {ds['sinogram'].size}" if "sinogram" in ds else ""
    return "Faults", f"<p>{missing}{share} samples of the sinogram were not finite.</p>"


def _cost(store: Path) -> Section | None:
    record = store.with_suffix(".run.json")
    if not record.is_file():
        return None
    run: dict[str, Any] = json.loads(record.read_text())
    rows = [(stage["stage"], f"{stage['seconds']:.2f} s") for stage in run["stages"]]
    plans = _table([HEAD, *run.get("plan", ())])
    recipe = f"<pre>{html.escape(run['recipe'])}</pre>"
    return "Plan and timings", f"{plans}<p>Time taken:</p>{_table(rows)}{recipe}"


def _one_frame(array: xr.DataArray) -> xr.DataArray:
    return array.isel({dim: array.sizes[dim] // 2 for dim in ("time", "z") if dim in array.dims})


def _where(image: xr.DataArray) -> str:
    for name, unit in (("q", "1/Å"), ("tth", "°"), ("energy", "keV")):
        if name in image.coords:
            return f", {name} = {float(image[name]):.3f} {unit}"
    return ""


def _axis_label(array: xr.DataArray, axis: str | None) -> str:
    return "channel" if axis is None else f"{axis} / {array[axis].attrs.get('units', '')}"


def _figure(rows: int, columns: int, *, height: float) -> tuple["Figure", list["Axes"]]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendError(
            "a report needs 'matplotlib', which is not installed: pip install 'ndtomo-dask[plot]'."
        ) from error
    figure = Figure(figsize=(12, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _limits(image: xr.DataArray) -> tuple[float, float] | None:
    finite = image.values[np.isfinite(image.values)]
    if not finite.size:
        return None
    low, high = np.percentile(finite, [1, 99])
    return float(low), float(high)


def _show(
    axes: "Axes",
    image: xr.DataArray,
    title: str,
    names: tuple[str, str],
    *,
    limits: tuple[float, float] | None = None,
) -> None:
    across, down = names
    low, high = limits or _limits(image) or (0.0, 1.0)
    values = image.transpose(down, across).values
    drawn = axes.imshow(
        values, vmin=low, vmax=high, cmap="viridis", aspect="auto" if down == "angle" else "equal"
    )
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.figure.colorbar(drawn, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)


def _picture(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return (
        f"<img alt='' src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
    )


def _table(rows: Sequence[Sequence[object]]) -> str:
    cells = ("".join(f"<td>{html.escape(str(value))}</td>" for value in row) for row in rows)
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"

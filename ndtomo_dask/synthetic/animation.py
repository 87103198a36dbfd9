"""A scan as a moving picture: where the beam is, and which rays have been measured."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ndtomo_dask.errors import OptionError, SchemaError, missing_extra

NEEDED = ("time", "angle", "translation", "angle_number", "translation_number")
INK, BEAM = "#223", "#d1495b"
DOTS_PER_INCH = 80


def animate_acquisition(
    acquisition: xr.Dataset, path: str | Path, *, frames: int = 60, rate: int = 15
) -> Path:
    """Draw a scan as a GIF: the sample before the beam, and the sinogram as it fills.

    Parameters
    ----------
    acquisition
        The table that `simulate_acquisition` made.
    path
        File to write, its name ending in ``.gif``.
    frames
        Pictures, evenly spaced over the points of the table; as many as there are points at most.
    rate
        Pictures per second.

    Returns
    -------
        The path. Needs ``pip install 'ndtomo-dask[plot]'``.

    Raises
    ------
    SchemaError
        The table is not one of `simulate_acquisition`.
    OptionError
        ``frames`` or ``rate`` is less than 1, or the name does not end in ``.gif``.
    """
    path = Path(path)
    if not set(NEEDED) <= set(acquisition.variables):
        raise SchemaError("animate_acquisition takes the table that simulate_acquisition makes.")
    if frames < 1 or rate < 1 or path.suffix.lower() != ".gif":
        raise OptionError(
            f"animate_acquisition needs frames >= 1, rate >= 1 and a name that ends in .gif, not "
            f"{frames}, {rate} and {path.name!r}."
        )
    table = {name: np.asarray(acquisition[name]) for name in NEEDED}
    points = table["time"].size
    shown = np.unique(np.linspace(0, points - 1, min(frames, points)).round().astype(int))

    figure, writer = _stage(rate)
    picture = _Picture(figure, table)
    with writer.saving(figure, str(path), DOTS_PER_INCH):
        for point in shown:
            picture.show(int(point))
            writer.grab_frame()
    return path


def _stage(rate: int) -> tuple[Any, Any]:
    try:
        from matplotlib.animation import PillowWriter
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("animate_acquisition", "matplotlib", "plot") from error
    figure = Figure(figsize=(6.4, 3.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure, PillowWriter(fps=rate)


class _Picture:
    """The sample from above on the left, the sinogram on the right."""

    def __init__(self, figure: Any, table: dict[str, np.ndarray]) -> None:
        self._table = table
        rows, columns = table["angle_number"], table["translation_number"]
        self._measured = np.full((rows.max() + 1, columns.max() + 1), np.nan)
        above, self._title = figure.subplots(1, 2)
        reach = 1.25 * float(np.abs(table["translation"]).max() or 1.0)
        self._radius = reach / 1.25
        self._draw_sample(above, reach)
        self._sinogram = self._title.imshow(
            self._measured, aspect="auto", cmap="viridis", vmin=0, vmax=float(table["time"].max())
        )
        self._title.set(xlabel="translation number", ylabel="angle number")
        figure.colorbar(self._sinogram, label="measured at (s)")

    def _draw_sample(self, axes: Any, reach: float) -> None:
        turn = np.linspace(0, 2 * np.pi, 100)
        self._edge = axes.plot(0, 0, color=INK)[0]
        self._mark = axes.plot(0, 0, "o", color=INK)[0]
        self._circle = np.cos(turn) * self._radius, np.sin(turn) * self._radius
        axes.axvline(0, color=BEAM)
        axes.set(xlim=(-2 * reach, 2 * reach), ylim=(2 * reach, -2 * reach), aspect="equal",
                 xlabel="across the beam (mm)", ylabel="along the beam (mm)")  # fmt: skip

    def show(self, point: int) -> None:
        """Move the sample to where it is at a point, and fill the rays up to it."""
        table = self._table
        done = slice(point + 1)
        self._measured[table["angle_number"][done], table["translation_number"][done]] = table[
            "time"
        ][done]
        turn, place = np.deg2rad(table["angle"][point]), float(table["translation"][point])
        self._edge.set_data(self._circle[0] - place, self._circle[1])
        across, along = np.cos(turn) * 0.7 * self._radius, np.sin(turn) * 0.7 * self._radius
        self._mark.set_data([across - place], [along])
        self._sinogram.set_data(self._measured)
        self._title.set_title(f"{table['time'][point]:.1f} s, {table['angle'][point]:.1f}°")

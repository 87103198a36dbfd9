"""Write ``docs/explanation/corrections.md`` and its picture."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.corrections import BAR, SIZES, Row, table

DOCS = Path(__file__).resolve().parents[1] / "docs"
SHOWN = ("clean", "with the defect", "corrected")
"""Images of a case, from left to right."""
DOTS, COLORS = 80, 32

PAGE = """# Corrections

Every defect that the simulator can make, by itself, and what its correction takes back. Written
by

```bash
python -m benchmarks.corrections --write
```

in a minute of one core.

**Data.** A packed powder of five phases in a capillary: {size} translations, {angles} projections,
{channels} channels, {grains} grains, {counts:.0f} counts per mm. Each row has one defect, and
Poisson counts.

**Figures.** Images by `fbp`. Errors are root mean squares over all pixels and channels, against the
image of the clean scan without noise, relative to its own root mean square. *Taken back* is the
share of the error beyond that of counting alone. *With the truth* is the same where the correction
is told the truth: what is left is not for an estimate to find.

{table}

![Clean, with the defect, corrected](../images/corrections.png)

One channel of each row, with much of the sample and of the defect: clean, with the defect,
corrected.

## Less than {bar:.0%}

{whys}

## What to know of the others

* **Stripes.** `find_translation_scale` uses that all channels share a gain: it looks for gains and
  images at once, the images with as few edges as they need
  ([when to use which](../howto/correct-a-scan.md#rings)).
* **Absorption.** The transmission of each ray is that of a diode behind the sample. At small angles
  the diffracted beam passes as much material as the direct one, so a division mends it.
* **Fluorescence.** Three lines, seen from the side; the sample's absorbance is 0.8 for the beam and
  2.4 for them, by its true map. It is simulated on pixels of half a step.
* **Amorphous matrix.** `subtract_background` takes the glass of the capillary as well, which is
  background, too; so images are compared with that of the clean scan after the same subtraction.
* **Lost projections.** `normalize_projections` makes them NaN, which FBP leaves out. Filled from
  the projections before and after, as here, they leave less of the error.
"""


def write_page(rows: Sequence[Row]) -> None:
    """Write the page and its picture."""
    save_small(draw(rows), DOCS / "images" / "corrections.png")
    (DOCS / "explanation" / "corrections.md").write_text(page(rows))


def save_small(figure: Figure, path: Path) -> None:
    """Save a figure in few colors: noise takes four times as much space in all."""
    from PIL import Image

    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DOTS)
    image = Image.open(drawn).convert("RGB")
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)


def page(rows: Sequence[Row]) -> str:
    """Text of the page."""
    lacking = [row for row in rows if row.case.why]
    whys = "\n\n".join(f"**{row.case.name.capitalize()}.** {row.case.why}" for row in lacking)
    return PAGE.format(table=table(rows), bar=BAR, whys=whys, **SIZES)


def draw(rows: Sequence[Row]) -> Figure:
    """Two cases a line, each clean, with the defect and corrected."""
    lines = -(-len(rows) // 2)
    figure = Figure(figsize=(9.2, 1.62 * lines), layout="constrained", facecolor="white")
    widths = [*[1.0] * len(SHOWN), 0.15, *[1.0] * len(SHOWN)]
    grid = figure.subplots(lines, len(widths), squeeze=False, width_ratios=widths)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, row in enumerate(rows):
        line, first = number // 2, (len(SHOWN) + 1) * (number % 2)
        _draw_case(grid[line, first : first + len(SHOWN)], row)
        grid[line, first + 1].set_title(row.case.name, fontsize=8)
    return figure


def _draw_case(panels: Sequence[Any], row: Row) -> None:
    top = float(np.percentile(row.images[SHOWN[0]], 99.5))
    for axes, name in zip(panels, SHOWN, strict=True):
        axes.imshow(row.images[name], cmap="magma", vmin=-0.05 * top, vmax=top)

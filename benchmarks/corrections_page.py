"""Write ``docs/explanation/corrections.md`` and its picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.corrections import BAR, SIZES, Row, table

DOCS = Path(__file__).resolve().parents[1] / "docs"
SHOWN = ("beam decay", "stripes", "400 single", "19 proj", "absorbance")
"""Cases of the picture, by how their names begin."""

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

## Less than {bar:.0%}

{whys}

## What to know of the others

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
    draw(rows).savefig(DOCS / "images" / "corrections.png", dpi=80)
    (DOCS / "explanation" / "corrections.md").write_text(page(rows))


def page(rows: Sequence[Row]) -> str:
    """Text of the page."""
    lacking = [row for row in rows if row.case.why]
    whys = "\n\n".join(f"**{row.case.name.capitalize()}.** {row.case.why}" for row in lacking)
    return PAGE.format(table=table(rows), bar=BAR, whys=whys, **SIZES)


def draw(rows: Sequence[Row]) -> Figure:
    """One column a case: clean, with the defect, corrected."""
    chosen = [row for start in SHOWN for row in rows if row.case.name.startswith(start)]
    figure = Figure(figsize=(2.3 * len(chosen), 6.6), layout="constrained", facecolor="white")
    grid = np.atleast_2d(figure.subplots(3, len(chosen), squeeze=False))
    for column, row in enumerate(chosen):
        top = float(np.percentile(row.images["clean"], 99.5))
        for line, (name, image) in enumerate(row.images.items()):
            axes = grid[line, column]
            axes.imshow(image, cmap="magma", vmin=-0.05 * top, vmax=top)
            axes.set_xticks([])
            axes.set_yticks([])
            if not column:
                axes.set_ylabel(name)
            if not line:
                axes.set_title(row.case.name, fontsize=9)
    return figure

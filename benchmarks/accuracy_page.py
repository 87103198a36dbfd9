"""Write ``docs/explanation/accuracy.md`` and its picture from what `benchmarks.accuracy` found."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.accuracy_models import MODELS, ripple
from benchmarks.accuracy_scans import ANGLES, CHANNELS, COUNTS, SIZE, Row, table

DOCS = Path(__file__).resolve().parents[1] / "docs"
Tables = Mapping[str, Mapping[int, list[Row]]]
RIVALS = {
    "scikit-image iradon": "`fbp`",
    "ASTRA FBP": "`fbp`",
    "ASTRA SIRT": "`sirt`",
    "ASTRA SART": "`sart`",
    "ASTRA CGLS": "`cgls`",
    "scikit-image iradon_sart": "`sart`",
}
"""Peers, and which of our methods does the same."""
NOTABLE = 0.02
"""Difference that is named: relative for RMSE, absolute for SSIM."""
SHOWN = {
    "`fbp`": "ram-lak", "`sirt`, nonnegative": "", "`cgls`": "", "`mlem`": "", "`tv`": "α = σ",
    "`nuclear`": "", "scikit-image iradon": "", "ASTRA SIRT": "", "ASTRA CGLS": "",
}  # fmt: skip
"""Rows of the picture, and how what they are told begins."""
PICTURED = 60
"""Number of projections of the picture."""

PAGE = """# Accuracy

Each method against the truth, beside ASTRA and scikit-image on the same data. Written, with all
its numbers, by

```bash
python -m benchmarks.accuracy --write
```

in two and a half minutes of one core.

**Data.** The head phantom of Shepp and Logan with Toft's contrast, {size}² pixels, {channels}
channels in which its details grow. Its sinogram is known by formula, averaged over strips one
step wide, so that no program is tested with its own model of a ray. *With noise*: counts,
{counts:.0f} in the largest sample of each channel.

**Figures.** RMSE / SSIM within the circle that all projections see. RMSE is over the root mean
square of the truth; SSIM is that of Wang et al. (2004), 1 for a perfect image. No channel is
averaged away: both are means over all.

**Choices.** Numbers of steps and α of `tv` are found by `find_iterations` and
`find_regularization`: by projections held out, as one would with a real scan. `the best α tried`
is the one row that knows the truth. Peers take as many steps as we do. Our backend is `cpu`, that
of ASTRA its `linear` projector on the CPU.

{tables}

![Truth, and what each method makes of {pictured} noisy projections](../images/accuracy.png)

## Where a peer is better

By more than {notable:.0%} of the RMSE or {notable} of SSIM, in as many steps of the same method:

{worse}

The reasons:

* **Steps that are too many.** Clean data are not in the range of any model: edges of the phantom
  cross pixels. What a model cannot explain, least squares puts into the image as noise, and more
  of it with every step. Held-out projections hardly see it: of 180 clean ones, `cgls` is best
  after 12 steps. In single precision it is one or two steps behind double precision from the 8th
  step on, with any model of a ray and in ASTRA too: rounding is all that is left of the strongest
  direction, which was found first.
* **Short steps.** scikit-image's `iradon_sart` goes further in a sweep than our `sart` with its
  `relaxation` of 0.3. With 1, ours is as close at 60 clean projections, and closer at 20.

## Models of a ray, {angles} projections

{models}

The samples of a uniform disc at 45°, which should be those of a strip, scatter by {ripple}: near
45° the middles of pixels lie 1/√2 apart, which `"pixel"` does not know of. So methods that iterate
take `"joseph"`, ASTRA's `linear`; `fbp` never projects, and interpolates between samples.

## What the tables tell

* Many clean projections: `fbp` is closer than 100 steps of `sirt`, in one pass. `os_sirt` and
  `sart` are closer still, because they have gone further along the way of `sirt`.
* The Hann window costs sharp edges. It pays with few or noisy projections, in SSIM before RMSE.
* A bound at 0 is the cheapest improvement of any method.
* `tv` is the best by far of a sample of uniform regions, as this one is. `α = σ √P` needs the
  noise and no trials. Held-out projections choose an α that is too small where data are clean or
  few: the row of the best α says by how much.
* `vectorial_tv` and `nuclear` gain a little over `tv` with noise, by the same rule for α, and
  nothing without: three channels share their edges, but each is seen well enough alone.
* `cgls` must be stopped early. `sirt` forgives more.
"""


def write_page(found: Tables, rays: Mapping[str, str], image: np.ndarray) -> None:
    """Write the page and its picture."""
    noisy = list(found.values())[-1][PICTURED]
    draw(noisy, image).savefig(DOCS / "images" / "accuracy.png", dpi=80)
    (DOCS / "explanation" / "accuracy.md").write_text(page(found, rays))


def page(found: Tables, rays: Mapping[str, str]) -> str:
    """Text of the page."""
    tables = "\n\n".join(f"## {title}\n\n{table(dict(rows))}" for title, rows in found.items())
    models = "\n\n".join(f"{title}:\n\n{rows}" for title, rows in rays.items())
    scatter = ", ".join(
        f"{ripple(model):.1%} with `{model!r}`".replace("'", '"') for model in MODELS
    )
    return PAGE.format(
        size=SIZE, channels=CHANNELS, counts=COUNTS, tables=tables, pictured=PICTURED,
        notable=NOTABLE, worse=worse(found), ripple=scatter, models=models,
        angles=ANGLES[0],
    )  # fmt: skip


def worse(found: Tables) -> str:
    """Write a table of where a peer is better than our method of the same name."""
    lines = ["| peer | ours | where | theirs | ours |", "| --- " * 5 + "|"]
    for peer, name in RIVALS.items():
        for title, columns in found.items():
            for angles, rows in columns.items():
                ours = next(row for row in rows if row.name == name)
                theirs = next(row for row in rows if row.name == peer)
                if beaten(ours, theirs):
                    figures = " | ".join(f"{r.rmse:.3f} / {r.ssim:.3f}" for r in (theirs, ours))
                    lines.append(f"| {peer} | {name} | {title.lower()}, {angles} | {figures} |")
    return "\n".join(lines)


def beaten(ours: Row, theirs: Row) -> bool:
    """Whether a peer's image is notably better by either figure."""
    return theirs.rmse < (1 - NOTABLE) * ours.rmse or theirs.ssim > ours.ssim + NOTABLE


def draw(rows: list[Row], image: np.ndarray) -> Figure:
    """Truth and results of the channel with most contrast, with their errors."""
    chosen = [
        next(row for row in rows if row.name == name and row.told.startswith(told))
        for name, told in SHOWN.items()
    ]
    panels = [("truth", image)]
    panels += [
        (f"{row.name.replace('`', '')}\n{row.told}, RMSE {row.rmse:.3f}", row.volume)
        for row in chosen
    ]
    figure = Figure(figsize=(12.4, 5.2), layout="constrained", facecolor="white")
    grid = figure.subplots(2, 5)
    shown = None
    for axes, (title, volume) in zip(grid.flat, panels, strict=False):
        shown = axes.imshow(volume[..., -1], cmap="gray", vmin=-0.1, vmax=1.1)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    if shown is not None:
        figure.colorbar(shown, ax=grid, fraction=0.02, label="density per step")
    return figure

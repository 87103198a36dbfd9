"""Text of ``docs/explanation/real-fits.md``; `benchmarks.real_fits` fills in the figures."""

PAGE = """# Fits of measured spectra

Iron's absorption lines over an image, fluorescence lines of a standard, rings of CeO2 by
azimuth: what the fits find, and what they do not explain. Written, with its figures and
pictures, by

```bash
python -m benchmarks.real_fits DATA --write
```

where `DATA` is the folder of the files. They are public: the Fe L edge of
`stetef/nano-XANES-microscopy-of-Fe` (`ALS_Toner`, repacked), `axo_std.h5` of
`hpphappy/XRF_tomography` and the Pilatus frame of `HEXRD/examples`. `tests/peaks/test_real_fits.py`
holds the results; it skips where the files are not at hand. How fits work is told in [Peak
fitting](peak-fitting.md).

## Iron: L3 and L2 over an image

`als_stxm_fe_ledge.h5`: counts behind 150 × 150 pixels at 123 energies. The incident counts are
those of {iron_clear} clear pixels of the image itself, so that no offset is left. {iron_pixels}
pixels hold iron and enough light; in {iron_dark} of the densest fewer than 60 counts are left at
the top of L3, and they are not fitted.

The model of a pixel: a (700/E)³ for what else absorbs; two ionization steps, arctangents 1 eV
wide at 709.7 and 722 eV with heights 2 to 1; L3 as two pseudo-Voigts of one width and shape, and
a shoulder; L2 as two of another width, 2 eV apart. The mean spectrum decides the shapes, the
width of L2 and how it is shared among its parts, and where the shoulder is. A pixel has 10 free
parameters, and weights from its counts. `fit_peaks` takes all of that: the steps as
`background`, ties, and bounds that fix what the mean spectrum decides.

![Mean spectrum and maps of iron's lines](../images/real-iron.png)

{iron_table}

* L3/L2 is {iron_ratio}. It goes from {iron_low} to {iron_high} with thickness; where thick
  pixels are saturated it would fall.
* The noise is that of counts: reduced χ² is {iron_chi} (median). L3/L2 scatters {iron_excess}
  times as much as its errors, which take the areas as independent and the shapes as known.
* Some grains stand out in both position maps: their lines lie at higher energy, and the lower
  line of L3 is weaker, as it is of Fe³⁺ beside Fe²⁺.

What does not fit: the residual of the mean is up to {iron_left} of the line. The multiplets of
L3 and L2 are more than two lines each. Behind L3, the shoulder and the step share what is there:
the step is {iron_step} of the area of L3 per eV (median), and it goes with the shape that is
given to the shoulder. The ratio counts the shoulder as L3.

## Fluorescence: {xrf_count} known lines, and five free ones

`aps_2ide_xrf_standard.h5`: 11 × 11 pixels of a uniform film, with the fits of the program MAPS.
A line is a Gaussian at its tabulated energy (`line_patterns`). The detector's fwhm² = a + b E
and a quadratic correction of the energy axis (up to 10 eV) come from five strong lines of the mean
spectrum.
`fit_references` then finds the amounts of all lines, each 0 or more, on a polynomial of degree
6.

![Spectrum with its lines, maps, scatter and ratios](../images/real-fluorescence.png)

{xrf_ratios}

* The film is uniform, so the scatter over its pixels tests the errors: of the four strong Kα and
  Lα lines it is {xrf_scatter} times the error.
* Free Gaussians on a line agree with the fixed ones: areas to {xrf_same}, positions as
  tabulated.
* Kβ/Kα is {xrf_beta}, not tied; theory has 0.13 to 0.14 (Scofield, Phys. Rev. A 9, 1041 (1974)).

{xrf_free}

What does not fit: around silicon the mean is off by ten standard deviations of 121 pixels, since
the low tails of the lines are not in the model. Mo Lα, S Kα and Pb Mα cannot be told apart at
0.15 keV, nor can Ar Kα and Pd Lβ1: their sums are meant. Pixel by pixel, our amounts and those
of MAPS correlate by only {xrf_correlation}, though both see the same counts; what else goes into
the rates of MAPS is not in the file. Its list has no lanthanum: what it shows as Ti, Cr and Mn
are likely the L lines of La.

## CeO2: rings by azimuth

`ceria_pilatus2m.hdf5`, sorted into 36 sectors and bins of 0.005° by the calibration beside it.
pyFAI's histogram of the same sectors gives the same positions, within 10⁻⁴ degree. One
pseudo-Voigt on a line per ring and sector by `fit_peaks`, then `lattice_parameter` from all ten
rings.

![Frame, positions, widths and lattice parameters by azimuth](../images/real-ceria.png)

{ceria_table}

(Differences, scatter and errors in 10⁻³ degree; a sector counts where nine tenths of the bins
have pixels.)

* Averaged over sectors, all rings lie within 0.001° of where they are expected, and a =
  {ceria_mean} Å: {ceria_off} parts in a million from the certified 5.411651 Å (NIST SRM 674b).
  The calibration was made from such a frame, so this tests the fits, not the wavelength.
* Widths grow from one pixel (0.0133°) to 0.019°.

What does not fit: a scatters by {ceria_scatter} Å over sectors, with errors of {ceria_error} Å.
Most of it is an ellipse, cos 2φ, 3 to 5 parts in ten thousand of 2θ. Neither a shifted center
nor the tilts that were left out of the calibration make one to first order; its cause is not
known to us. Without terms up to 2φ, positions still scatter {ceria_share} times as much as their
errors. Errors are those of the noise in a sector. They do not know that tiles of the detector
lie a fraction of a pixel off, nor that few grains reflect into a sector.

## One peak per pixel, as in nDTomo's tutorial

A phantom of 200 × 200 pixels without noise, five patterns, the Zn peak in 22 channels from 2.70°
to 2.95°, in which also the tail of an Al peak is seen. Processor time of one core; the loop was
timed on some of the pixels, in turn with ours. Errors are medians against the truth.
The ratio per fit was 400 to 520 in four runs on a machine that others used too.

{experiment}

The line through the end channels cuts the feet of the peak. Fitted with the peak, it does not;
what is left is the tail of Al. `fit_peaks` also fits pixels in which only that tail is seen. The
tutorial's own loop and its packaged function were timed by its author, and no accuracy is given.
`python -m benchmarks.map_one_peak` prints this table.
"""

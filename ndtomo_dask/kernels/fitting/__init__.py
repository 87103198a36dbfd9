"""Fits of peaks, many spectra at once."""

"""Components, clusters and known spectra of many pixels."""

"""Components: PCA, ICA, NMF, K-means, and known spectra."""

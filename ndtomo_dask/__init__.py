"""Distributed, out-of-core hyperspectral tomography."""

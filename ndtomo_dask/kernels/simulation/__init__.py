"""Simulated samples, and what a beam and a detector make of them."""

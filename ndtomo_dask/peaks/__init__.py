"""Peaks: found, fitted, evaluated, and what crystals they tell of."""

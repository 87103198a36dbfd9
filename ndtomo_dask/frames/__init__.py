"""Detector frames: how they are integrated, and onto which grid."""

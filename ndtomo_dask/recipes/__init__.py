"""Recipes: read, planned, run, resumed, followed."""

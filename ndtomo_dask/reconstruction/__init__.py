"""From sinograms to images, and the geometry that this takes."""

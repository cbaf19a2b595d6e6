"""Figures: what a repository's blobs add up to, counted in steps and kept with their time."""

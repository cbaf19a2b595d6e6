"""Figures: the sums of a repository's blobs, counted in steps and stored with their time."""

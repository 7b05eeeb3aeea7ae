"""Measurements. Each talks to a running server only, and prints ratios taken within one run."""

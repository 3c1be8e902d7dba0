"""Figures, never tests: machines differ, so ratios are taken side by side in one run. `make bench [ARGS=name]`."""

"""Measurements: what the goals of docs/performance.md are checked with. ``python -m bench`` runs them all."""

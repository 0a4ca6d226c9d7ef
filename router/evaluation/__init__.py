"""Measures the routed policy on problems that its bundle never saw."""

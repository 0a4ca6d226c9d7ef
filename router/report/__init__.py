"""Bundles and evaluations as self-contained HTML pages."""

"""Fitting: from labelled problems to a table of which search pays where."""

"""Model weights: find, fetch, verify, convert."""

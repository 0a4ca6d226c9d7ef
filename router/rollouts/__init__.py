"""Rollouts: what was sampled, stored as it finishes."""

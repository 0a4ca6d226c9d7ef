"""Training and measuring a verifier from rollouts."""

"""Training verifier heads on cached hidden states of a frozen backbone."""

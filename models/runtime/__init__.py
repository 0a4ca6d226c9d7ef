"""What generators and verifiers share to run models: batching, caches, vLLM's processes."""

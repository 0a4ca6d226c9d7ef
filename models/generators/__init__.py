"""Generators: sample continuations on vLLM, transformers, or OpenAI-compatible servers."""

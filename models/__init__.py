"""Models: generators, verifiers, PRM formats, prompts, weights, and fakes for tests."""

"""An OpenAI-compatible service over one router, and a page that shows its searches."""

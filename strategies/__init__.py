"""Search strategies, the context they run in, selection and answers."""

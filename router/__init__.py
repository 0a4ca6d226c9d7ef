"""The router: decides, per problem and budget, which search to run, and runs it."""

"""How hard a problem is for a given generator: levels, features, the learned estimator."""

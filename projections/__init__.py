"""How read models follow from the log: pure folds, and the projector that runs them. Imports domain."""

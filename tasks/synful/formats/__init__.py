"""Partners in other formats: what a run exports, and what is read instead of a run's own data set."""

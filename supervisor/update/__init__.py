"""Updates of the engine: the check, the comparison of two builds, and the rollback."""

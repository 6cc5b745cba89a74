"""Hardware detection: one small file per vendor or mechanism, all with the same kind of record."""

"""What this computer is: one small file per vendor or mechanism, each giving the same record."""

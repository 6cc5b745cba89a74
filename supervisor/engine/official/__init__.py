"""An official release on its way to disk: verified, unpacked without trust, proved, recorded."""

"""Tests that an engine runs and computes correctly on the device that it is for."""

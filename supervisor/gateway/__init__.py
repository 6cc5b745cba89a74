"""The door that clients come in by: one address that stays, whatever happens to the server behind it."""

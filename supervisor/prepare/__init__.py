"""The one place where profile, hardware, engine, model and disk meet."""

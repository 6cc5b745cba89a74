"""The page: its files, who has logged in, what it hears as it happens, and what it may ask for."""

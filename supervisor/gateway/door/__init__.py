"""Who may come in: keys, the name by which we were found, and the page that asks."""

"""How much of each memory a launch takes, whether it fits, and what would make it fit."""

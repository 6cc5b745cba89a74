"""What a launch takes of the memories of a computer, whether that fits, and what would."""

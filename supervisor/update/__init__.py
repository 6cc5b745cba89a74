"""From one engine to another: news of releases, the contest of two builds, and the way back."""

"""Profile, build and model become one launch plan.  Pure: the same values give the same plan."""

"""The server under test as the whole fleet of a daemon."""

from __future__ import annotations


class FleetOfOne:
    """Has a ``server``, and is its own only instance."""

    name, placement = "default", ""
    last_failure = (None, (), None)

    @property
    def main(self):
        return self

    @property
    def profile(self):
        return self.server.plan.profile if self.server.plan else ""

    def having(self, profile):
        return self if profile == self.profile else None

    def __iter__(self):
        return iter((self,))

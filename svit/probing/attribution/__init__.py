"""Which tokens a detection needs, found by taking them away: `explain.explain` is the door."""

"""Which tests a change needs: what an earlier run knew of its tests, and what has changed since."""

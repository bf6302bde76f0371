"""Guards: how what anybody may have written is opened and read."""

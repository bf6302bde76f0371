"""Stand-alone programs that run inside containers and builds, of any image."""

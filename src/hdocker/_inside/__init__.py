"""What runs inside containers and builds, of whatever image: programs of their own."""

"""Images with measuring baked in when they are built."""

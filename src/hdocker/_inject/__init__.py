"""What a container is given as it starts so that it is measured; its image stays as it is."""

"""What recording must know of models that are not ours: one small file a host, none imports its library."""

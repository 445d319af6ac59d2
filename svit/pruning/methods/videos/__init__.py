"""The methods that carry state over the frames of a video, one paper a file."""

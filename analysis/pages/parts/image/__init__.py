"""Parts of the Image page."""

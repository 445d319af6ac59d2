"""A loaded model that one can touch."""

"""How fast a model is, and why it is not faster."""

"""Every method from the same weights, by one recipe and one budget."""

"""Everything that was drawn, on one sheet."""

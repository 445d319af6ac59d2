"""Everything that some folders support, gathered and written as one sheet."""

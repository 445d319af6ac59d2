"""Parts of the Rates page."""

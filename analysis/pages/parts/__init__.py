"""What the pages are made of: a folder a page, and what they share."""

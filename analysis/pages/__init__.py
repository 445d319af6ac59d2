"""The pages of the app: one file a page, its parts below `parts`."""

"""Options that several verbs share, each group defined once."""

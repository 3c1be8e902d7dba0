"""The source repositories: what a name, a branch or nothing at all means, and what lies between two commits."""

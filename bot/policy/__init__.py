"""Who may do what, and when: pure functions, facts in, verdict out."""

"""What the user wants: models, loading, and checks against this host."""

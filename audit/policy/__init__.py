"""The intent plane: what the policy objects mean, for every cell at once. Pure."""

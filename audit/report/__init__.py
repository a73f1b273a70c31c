"""A run as something to read: view models, the HTML page, sentences."""

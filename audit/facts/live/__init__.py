"""A live cluster → a snapshot of it: Lists from the API server, databases by pod exec."""

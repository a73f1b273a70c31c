"""The report's templates, stylesheet and script, as package data."""

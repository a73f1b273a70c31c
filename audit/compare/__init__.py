"""Finished runs against each other and against expectations: pure, by array per source."""

"""Outcomes → verdicts: judge a hop, blame a policy, compose hops into cells. Pure."""

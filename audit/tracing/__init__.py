"""Traces run to their end, whatever the engine: the loop, which more to trace, planes, workers."""

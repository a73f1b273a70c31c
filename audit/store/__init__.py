"""A run as Parquet: schema with a version, writer, reader, query.

`writer` makes a run directory out of the model's values, `reader` gives the same values back,
`query` answers SQL over the files. `schema` is what all three agree on, and `docs/store.md` is
printed from it. This is the only package that knows pyarrow and duckdb.
"""

"""Where records live: one LMDB, its tables, and the rows in them."""

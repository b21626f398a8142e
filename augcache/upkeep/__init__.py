"""How a store is looked after: verify, merge, prune, compact, export."""

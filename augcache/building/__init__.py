"""How records are computed: items and a recipe, through workers, into a store."""

"""What a person sees of a store: the report page and the preview sheet."""

"""What a trainer imports: datasets, look-up, views, palette jitter. All of torch is here."""

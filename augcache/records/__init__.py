"""What a record is as bytes: encoding, checksum, runs, and their expansion."""

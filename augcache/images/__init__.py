"""What bytes look like: decoded pixels, and their content key."""

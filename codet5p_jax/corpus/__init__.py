"""The corpus layer; see its modules."""

"""The cli layer; see its modules."""

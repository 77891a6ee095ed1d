"""The interop layer; see its modules."""

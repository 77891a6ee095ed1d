"""The decoding layer; see its modules."""

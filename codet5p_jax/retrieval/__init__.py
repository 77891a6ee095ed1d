"""The retrieval layer; see its modules."""

"""The evaluation layer; see its modules."""

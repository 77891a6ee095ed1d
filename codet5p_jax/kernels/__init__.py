"""The kernels layer; see its modules."""

"""What the text of a compiled program says: instructions, trips of loops, arithmetic, traffic."""

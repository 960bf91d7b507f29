"""Whether one network may come from another: scores, each beside what unrelated networks of the same shape get."""

"""Sketch archive: everything an audit keeps of a model, in one small file that stands in for its weights."""

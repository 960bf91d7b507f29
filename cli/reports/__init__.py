"""Pure functions from a record to text, one module per format: `audits` and `comparisons` are the tables of them."""

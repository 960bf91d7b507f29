"""The lognormal and what it is measured against."""

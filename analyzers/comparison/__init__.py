"""Two models side by side: their layers matched, measured, compared weight by weight, and the verdict on them.

`operand` says what is compared, `kept` what a baseline has of a model, `matching` which layer of one is which of the
other, `parameters`, `distances` and `quantiles` how unlike their laws are, `exact` how unlike the weights themselves
are, `lineage` whether one network may come from the other, `verdict` sums it up, and `comparison` joins them. `record`
is the public shape of the result.
"""

"""Whether the layers of one network, or of several, share one law, beyond what untrained noise gives.

`member` is what is known of a layer, `constancy` how constant a quantity is over layers (by `meta_analysis`, `icc` and
`trend`), `twin` what the same layers would show untrained, `one_law` what one law for all of them costs, `collapse`
whether their shapes agree, and `universality` joins them into a verdict.
"""

"""A model as a typed graph of tensor operations: what a front end makes and what the compiler's passes rewrite."""

"""Neural-network layers in NumPy, every backward pass derived by hand."""

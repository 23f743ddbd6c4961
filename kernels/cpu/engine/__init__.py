"""What the operations are made of: products, vectors, functions, random words."""

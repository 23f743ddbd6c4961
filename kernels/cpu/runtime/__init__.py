"""How compiled code comes about and runs: compilation, its cache, the pool of threads, teams of them."""

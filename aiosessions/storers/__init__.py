"""Where sessions are kept: one module per backend, each importing its driver and no other."""

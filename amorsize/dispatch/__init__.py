"""Where chunks run. `pool` keeps our own worker processes, `worker` is their side, `stock` drives a standard Pool."""

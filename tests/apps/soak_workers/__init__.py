"""Workers of tests/bench/worker_soak.py: one module per framework, each with numbered jobs and a client that sends them."""

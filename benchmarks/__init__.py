"""What the service does a second, and how long it takes: measured, beside its peers, on one machine, in one run."""

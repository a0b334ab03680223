"""What was seen of the cluster, held small, for decisions to read."""

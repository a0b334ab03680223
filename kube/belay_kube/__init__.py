"""How Belay's processes talk to Kubernetes: a client, a reader of changes, leases, errors, and the one clock."""

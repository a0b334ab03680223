"""A real Kubernetes control plane for development and tests, with no cluster and no container needed."""

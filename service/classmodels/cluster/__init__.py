"""A run on a Kubernetes cluster: its objects, its inputs, its submission, its progress."""

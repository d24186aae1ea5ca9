"""The lab: Kubernetes clusters on networks of their own, on one Linux machine."""

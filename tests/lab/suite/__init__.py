"""Scenarios against the lab. Each file of them states truths about real clusters and real Istio."""

"""Latency prediction."""

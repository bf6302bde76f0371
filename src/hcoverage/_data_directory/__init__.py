"""The data directory: the one place that processes and containers write into."""

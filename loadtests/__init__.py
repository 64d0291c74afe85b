"""Load tests and measurements; each prints Markdown for RESULTS.md."""

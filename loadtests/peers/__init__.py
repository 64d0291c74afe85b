"""The same models and the same bytes, served by others. README.md says how each is configured and why."""

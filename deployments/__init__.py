"""The online half: the Ray Serve deployments that answer requests."""

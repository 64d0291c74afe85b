"""Ray imports this into every process that it starts, before that does anything (RAY_preload_python_modules)."""

from deployments.precedence import start_behind

start_behind()

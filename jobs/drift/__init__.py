"""The drift job: is the traffic whole, has it changed, does that do harm. It runs in .venv-drift, without Ray."""

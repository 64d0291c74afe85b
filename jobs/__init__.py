"""The offline half: the commands of `tiltyard`."""

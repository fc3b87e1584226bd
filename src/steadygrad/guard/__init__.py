"""Watches over a training: skips bad steps, damps, goes back to a good state, and stops before it is ruined."""

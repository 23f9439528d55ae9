"""Deciding, pure: numbers in, numbers out. No clock, no disk, no process, no randomness."""

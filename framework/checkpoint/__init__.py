"""Checkpoints that exist whole or not at all: saved beside, hashed, synced, renamed; chosen by what verifies."""

"""Runs on a SLURM cluster: submitting them, living through preemption, and telling how they are. Imports no torch at its top."""

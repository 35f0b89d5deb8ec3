"""Starts ranks and answers on the command line. Imports framework, never the reverse."""

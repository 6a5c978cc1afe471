"""Finished runs for a paper: tables, methods in words, references and figures."""

"""Procedural objects, made of parts."""

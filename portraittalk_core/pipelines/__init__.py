"""Pipelines: one function for each job, composing the packages below."""

"""One function for each job, composing the floors below."""

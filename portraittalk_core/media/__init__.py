"""Sound, video, pictures and records: everything that reads or writes a file."""

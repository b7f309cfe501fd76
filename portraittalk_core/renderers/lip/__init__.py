"""Lip renderers: the mouth of a filmed face is painted anew from landmarks, references and sound."""

"""Providers of language models behind one method."""

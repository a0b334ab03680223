"""The contract of Belay: its resources, phase tables, frames and the names both sides use."""

"""The operator: observe what is, decide what should change, apply it; and nothing else writes (STYLE.md, habit 1)."""

"""Model agents: mail goes into a session's mailbox and is drained into a model, one half-step at a time."""

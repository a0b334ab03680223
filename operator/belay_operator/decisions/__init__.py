"""Pure decisions: values and `now` in, a value out; no client, no clock, nothing to wait for."""

"""`belay channel`: Claude Code as an agent, by an MCP server on standard input and output (docs/claude-code.md).

Claude Code <- stdio -> transport <- server (tools) · bridge (work) · prompts (permissions) -> AgentChannel <-> gateway

Only `server` and `transport` import the `mcp` SDK, an optional extra.
"""

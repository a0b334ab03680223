"""The gateway: agents attach here by WebSocket; what they say becomes resources, and resources become frames."""

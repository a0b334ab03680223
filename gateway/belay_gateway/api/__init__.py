"""`/api/v1`: the verbs of sockets for sessions and people, over HTTP (DESIGN.md section 6; docs/http.md)."""

"""The edge: where what kopf and the readers see becomes records for the engine. Handlers here only translate."""

"""The drop-in proxy: an OpenAI-compatible server that marks what passes through it."""

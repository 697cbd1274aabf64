"""OpenAI-compatible KServe model server for one model version."""

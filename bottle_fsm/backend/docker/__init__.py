"""The Docker backend: any Docker-compatible engine, through docker-py and nothing but its API."""

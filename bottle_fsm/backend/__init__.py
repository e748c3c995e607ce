"""The hands: one package a backend, and the base that none of them can forget."""

"""The first process of every sandbox: a program of its own, started inside, of which the launcher imports nothing.

Standard library only, and of old Pythons: it runs on what the host has at /usr/bin/python3.
"""

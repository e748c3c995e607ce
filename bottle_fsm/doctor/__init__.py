"""What this machine has and lacks for bottles: looked at without changing anything, judged, with what to do.

Each area is a pair: a module that looks and gives facts, and a pure one that makes rows of facts.
"""

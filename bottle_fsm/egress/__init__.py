"""What the sidecars are told, and the sidecars themselves. Everything here also runs inside the sidecars' images."""

"""The doors: each decodes its dialect, asks the engine, and encodes the answer. None knows another."""

"""What a model is: layers and builders in code, the artifact on disk.

Importing this package must not import Keras: `models.artifact` and `models.store` are shared with a
service that may run without it. The Keras floor is `models.layers`, `models.builders`,
`models.registry`, `models.loading`, `models.activations`, `models.diff` and `models.checks`.
"""

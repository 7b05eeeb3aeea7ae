"""Makes artifacts: trains or re-exports a model, proves in a fresh process that it reloads right, publishes it."""

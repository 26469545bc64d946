"""Train, evaluate and promote models: pipeline runs, the promotion gate, excluded windows."""

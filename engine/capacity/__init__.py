"""Replicas that a load needs: the scaling policy and the service that runs it."""

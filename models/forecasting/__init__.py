"""Shared parts of the forecasters: features, baselines, linear pools, quantile trees and levels."""

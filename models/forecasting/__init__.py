"""What the forecasters share: features, baselines, linear pools, quantile trees and quantile levels."""

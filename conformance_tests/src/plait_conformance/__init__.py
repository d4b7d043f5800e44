"""The strict fake store and the conformance suite for adapters of plait."""

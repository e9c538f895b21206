"""Models: found, loaded, filled with weights, and read as features and logits."""

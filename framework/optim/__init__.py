"""Parameter groups, the optimizer, and the learning rate as a pure function of the step."""

"""What a run reports about itself: JSON lines, TensorBoard, FLOPs, memory, and the lines a person reads."""

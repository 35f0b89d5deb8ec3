"""Fine-tuning of a pretrained model on labelled text, with LoRA or in full, and the honest evaluation of the result."""

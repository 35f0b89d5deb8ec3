"""LoRA fine-tuning of a pretrained model, and an honest evaluation of what it learned."""

"""Networks and how they learn: actors, decoder, denoising, one optimiser step for all."""

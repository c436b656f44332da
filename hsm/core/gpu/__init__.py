"""GPUs: which there are, which job has which, and what becomes of them."""

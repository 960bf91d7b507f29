"""Two layers compared weight by weight, in one pass over both and in bounded memory."""

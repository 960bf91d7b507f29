"""What a model was like when somebody approved it: a text file with one line a layer, and what has changed since."""

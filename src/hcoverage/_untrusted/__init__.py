"""Guards: open and read files safely that anybody may have written."""

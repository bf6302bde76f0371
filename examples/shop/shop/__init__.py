"""A small shop: a catalogue, its prices, a web service that quotes them and a tool that asks it."""

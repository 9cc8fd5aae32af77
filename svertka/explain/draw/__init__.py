"""Drawings: data first (`frames`), then shapes, then SVG, HTML, GIF or the terminal."""

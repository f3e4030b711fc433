"""The nets, built from an architecture; they need torch alone."""

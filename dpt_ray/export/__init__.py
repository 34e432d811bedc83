"""Folders of exported networks. They are loaded in one line, and need neither Ray nor the run that wrote them."""

"""One plug-in of each kind; docs/guide/developers.md explains them."""

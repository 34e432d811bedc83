"""The gallery: a web page and an HTTP interface that draw and classify images with trained networks."""

"""One cell's life, in one process and on one device: build, train, evaluate, measure."""

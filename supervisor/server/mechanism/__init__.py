"""How a child is started, read and outlived: one small file per mechanism of an operating system."""

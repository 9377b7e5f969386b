"""People's files of points and meshes, and clouds of other libraries: readers and writers."""

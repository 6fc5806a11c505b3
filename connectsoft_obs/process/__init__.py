"""This process and its operating system: threads, forks, file locks, private directories, identity."""

"""What a model is: versions on disk, signatures, preprocessing, backends. Plain Python, runs without Ray."""

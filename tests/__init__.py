import gc

# Tracing makes many small objects: seldom looked through, it takes a tenth less time.
gc.set_threshold(50_000, 20, 50)

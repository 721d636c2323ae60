"""Numbers behind the figures: frames, arrays and runs in, frames and arrays out. Nothing here draws or trains."""

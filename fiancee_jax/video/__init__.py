"""A source picture in the motion of a driver: request, batches, frames, page, flicker."""

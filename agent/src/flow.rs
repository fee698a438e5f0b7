//! Tracker, batcher, forwarder and token joined into one machine without I/O.

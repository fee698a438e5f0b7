//! The daemon's hall: starts drivers, connects rooms, handles signals and shutdown.

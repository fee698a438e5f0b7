//! Load tests: generator, progress, report.

//! The configuration file: load refuses, check advises.

//! The flow against a relay of a few lines, in virtual time.

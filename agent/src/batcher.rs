//! When a batch goes.

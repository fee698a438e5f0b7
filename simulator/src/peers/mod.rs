//! The simulated counterparts as pure machines: time, randomness and bytes come in as arguments.

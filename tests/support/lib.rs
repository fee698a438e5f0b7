//! What tests, benches and the demo share: private mail servers, processes that end with the test, waiting for a condition.

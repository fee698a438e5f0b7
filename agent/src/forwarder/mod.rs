//! From a batch to the relay's answer: wire types, what an answer means, the outbox, the HTTPS driver.

//! What the drivers of several kinds share around their own work: a thread that ends with its source, the pair of threads
//! of a source that a mail server waits for, the task that wakes a machine when it is due. All of it is threads and clocks,
//! so it lives in [`driver`].

pub(in crate::source) mod driver;

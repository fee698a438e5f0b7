//! What wakes a thread that waits for descriptors: any other thread signals. All of it is the kernel's, so it lives in
//! [`driver`].

pub(in crate::source) mod driver;

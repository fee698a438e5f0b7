//! One file a command family; each turns arguments into calls of the rooms and prints the result.
